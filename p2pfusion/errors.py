"""Every exception that the package raises on purpose.

    P2PFusionError
    +-- LocalProtocolError      our own bug: crash loudly
    +-- RemoteProtocolError     a peer broke the rules: drop what it sent, never crash
    +-- ConfigError             a profile, manifest or argument is wrong (exit 8)
    |   +-- LayoutError         a model's layout contradicts itself
    |   +-- DeviceError         this machine has no such device
    +-- DataError               a data file is missing, corrupt or unsuitable (exit 8)
    +-- NotRunningError         no daemon answers in this home (exit 3)
    +-- NotFoundError           nothing, or more than one thing, has that name (exit 4)
    +-- DeniedError             a ticket, key or role does not let in (exit 5)
    +-- WaitTimeoutError        what was waited for did not happen in time (exit 6)
    +-- UnhealthyError          the daemon runs and reports trouble (exit 7)
    +-- IncompatibleError       another version or manifest (exit 9)
    +-- ConflictError           already running, in a swarm, port in use (exit 10)
    +-- VerificationError       a file's content is not what it claims to be (exit 11)
    +-- ResourceError           disk, memory or descriptors ran out (exit 12)
    |   +-- DiskFullError       no room for a file; what it held before is still there
    |   +-- OutOfMemoryError    the trainer's memory did not suffice
    +-- StartInterruptedError   a signal ended a start before READY (exit 130)
    +-- TrainerError            the trainer failed; its own words follow (exit 1)
        +-- NonFiniteError      training left the finite numbers; nothing is offered
        +-- PrivacyBudgetError  data has told as much as its owner allows

The text of an error tells the user what happened; ``hint`` says what to do. The command
line prints both on one line and exits with ``exit_code``.
"""

from __future__ import annotations

from collections.abc import Mapping


class P2PFusionError(Exception):
    """Base of every error that the package raises on purpose."""

    exit_code = 1
    name = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class LocalProtocolError(P2PFusionError):
    """We are about to break the protocol ourselves: a bug in this program."""

    name = "local-protocol"


class RemoteProtocolError(P2PFusionError):
    """A peer sent something that the protocol forbids."""

    name = "remote-protocol"

    def __init__(self, message: str, *, hint: str = "", offence: str = "rules") -> None:
        """``offence``: which kind of ``protocol/offences.py`` this is; "" for what says
        nothing about whom it seems to come from."""
        super().__init__(message, hint=hint)
        self.offence = offence


class ConfigError(P2PFusionError):
    """A profile, a manifest or an argument is wrong; the text names file and key."""

    exit_code = 8
    name = "bad-configuration"


class LayoutError(ConfigError):
    """A layout contradicts itself, or a split does not fit it."""

    name = "bad-layout"


class DeviceError(ConfigError):
    """This machine has no such device to train on."""

    name = "no-device"


class DataError(P2PFusionError):
    """A data file cannot be used; the text names file, record and reason."""

    exit_code = 8
    name = "bad-data"


class NotRunningError(P2PFusionError):
    """No daemon answers in this home directory."""

    exit_code = 3
    name = "not-running"


class NotFoundError(P2PFusionError):
    """Nothing has that name, or more than one thing has it."""

    exit_code = 4
    name = "not-found"


class DeniedError(P2PFusionError):
    """A ticket, a key or a role does not allow this."""

    exit_code = 5
    name = "denied"


class WaitTimeoutError(P2PFusionError):
    """What was waited for did not happen in time."""

    exit_code = 6
    name = "timeout"


class UnhealthyError(P2PFusionError):
    """The daemon runs, and its own checks report trouble."""

    exit_code = 7
    name = "unhealthy"


class IncompatibleError(P2PFusionError):
    """The other side runs another version or another swarm."""

    exit_code = 9
    name = "incompatible"


class ConflictError(P2PFusionError):
    """Something that may exist once exists already."""

    exit_code = 10
    name = "conflict"


class VerificationError(P2PFusionError):
    """A file's content is not what its name or header claims."""

    exit_code = 11
    name = "verification-failed"


class ResourceError(P2PFusionError):
    """The machine has run out of disk, memory or file descriptors."""

    exit_code = 12
    name = "resources"


class DiskFullError(ResourceError):
    """There is no room on a disk; nothing is half written."""

    name = "disk-full"


class OutOfMemoryError(ResourceError):
    """A trainer's memory did not suffice for its sub-model."""

    name = "out-of-memory"


class StartInterruptedError(P2PFusionError):
    """A signal came before the daemon was ready; it has ended, and has lost nothing."""

    exit_code = 130
    name = "start-interrupted"

    def __init__(
        self,
        message: str = "interrupted before the daemon was ready",
        *,
        hint: str = "nothing is lost: start it again",
    ) -> None:
        super().__init__(message, hint=hint)


class TrainerError(P2PFusionError):
    """The trainer process reported a failure or died."""

    name = "trainer"


class NonFiniteError(TrainerError):
    """Training left the finite numbers; the round's result must not be offered."""

    name = "non-finite"


class PrivacyBudgetError(TrainerError):
    """One more contribution would tell more of the data than its owner allows."""

    name = "privacy-budget"


def reported(fields: Mapping[str, object]) -> P2PFusionError:
    """The error that another process of ours told: its name, message and hint."""
    families: list[type[P2PFusionError]] = [P2PFusionError]
    for family in families:
        families.extend(family.__subclasses__())
    named = [family for family in families if family.name == fields.get("name")]
    kind = named[0] if named else P2PFusionError
    return kind(str(fields.get("message", "")), hint=str(fields.get("hint") or ""))
