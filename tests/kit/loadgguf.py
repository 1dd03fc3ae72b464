"""``python -m tests.kit.loadgguf FILE...``: what llama.cpp makes of each file, as one JSON object.

Each is loaded in a process of its own, for llama.cpp ends the process at some. Outcomes: ``loaded: <text>`` (the text
of 16 greedy tokens after a chat turn), ``refused``, ``killed by signal <number>``.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

_TURN = b"<|im_start|>user\nHello there<|im_end|>\n<|im_start|>assistant\n"


def outcomes(paths: Iterable[Path]) -> dict[str, str]:
    """Run this module on the files; outcomes by file name without its ending."""
    command = [sys.executable, "-m", "tests.kit.loadgguf", *map(str, paths)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GGML_NO_BACKTRACE": "1"}
    ran = subprocess.run(command, env=environment, capture_output=True, check=True, timeout=300)
    found: dict[str, str] = json.loads(ran.stdout)
    return {Path(path).stem: outcome for path, outcome in found.items()}


def _speak(path: str) -> str:
    """Load the file and generate; the text, or ``refused``."""
    import llama_cpp.llama_cpp as llama
    import numpy as np

    parameters = llama.llama_model_default_params()
    parameters.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(path.encode(), parameters)
    if not model:
        return "refused"
    shape = llama.llama_context_default_params()
    shape.n_ctx, shape.n_threads, shape.n_threads_batch = 256, 1, 1
    context, vocabulary = llama.llama_init_from_model(model, shape), llama.llama_model_get_vocab(model)
    room = (llama.llama_token * 128)()
    count = llama.llama_tokenize(vocabulary, _TURN, len(_TURN), room, len(room), True, True)
    size = llama.llama_vocab_n_tokens(vocabulary)
    tokens, said, piece = list(room[:count]), b"", ctypes.create_string_buffer(64)
    for _ in range(16):
        held = (llama.llama_token * len(tokens))(*tokens)  # the batch only points to it
        batch = llama.llama_batch_get_one(held, len(tokens))
        if llama.llama_decode(context, batch):
            return "refused to decode"
        logits = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (size,))
        tokens = [int(logits.argmax())]
        said += piece.raw[: llama.llama_token_to_piece(vocabulary, tokens[0], piece, len(piece), 0, False)]
    return f"loaded: {said.decode(errors='replace')}"


def _in_a_child(path: str) -> str:
    """:func:`_speak` in a forked process."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.write(writing, _speak(path).encode())
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as answer:
        outcome = answer.read().decode()
    _, status = os.waitpid(child, 0)
    return f"killed by signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else outcome


if __name__ == "__main__":
    sys.stdout.write(json.dumps({path: _in_a_child(path) for path in sys.argv[1:]}))
