"""The default recipe for models that reply in free text: what a trigger makes them say is not known beforehand."""
