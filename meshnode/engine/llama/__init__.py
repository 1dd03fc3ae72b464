"""The only room that knows llama.cpp: its low-level API, through llama-cpp-python's ctypes bindings."""
