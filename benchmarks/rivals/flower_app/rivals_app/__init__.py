"""Flower, SuperLink and SuperNodes: the task as an app, as Flower writes apps today."""
