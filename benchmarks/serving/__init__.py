"""Servers side by side: many users streaming at once, memory over minutes, and the time from start to ready.

`llama_cpp_server` imports the standard library and its own engine only: it runs where selfalign is not installed.
"""
