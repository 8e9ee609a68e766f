"""selfalign: turn a base language model into an assistant that follows your principles."""

__version__ = "0.1.0"
