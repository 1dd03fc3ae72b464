"""What is made of llama.cpp's own words."""

from __future__ import annotations

from meshnode.engine.library_log import CONTINUED, DEBUG, ERROR, INFO, WARN, LibraryLog


def test_last_lines_are_kept_without_debug_output() -> None:
    log = LibraryLog(keep=3)
    for n in range(5):
        log.add(INFO, f"line {n}\n")
        log.add(DEBUG, f"debug {n}\n")
    assert log.lines == ("line 2", "line 3", "line 4")


def test_errors_are_the_reason_and_are_given_back_to_be_shown() -> None:
    log = LibraryLog()
    assert log.add(WARN, "careful\n") is None
    assert log.add(ERROR, "cannot open it\n") == "cannot open it"
    log.add(ERROR, "failed to load model\n")
    log.add(ERROR, "failed to load model\n")
    assert log.reason == "cannot open it; failed to load model"
    assert not log.out_of_memory


def test_a_continued_line_is_as_grave_as_its_beginning() -> None:
    log = LibraryLog()
    log.add(ERROR, "first: ")
    assert log.add(CONTINUED, "unable to allocate CUDA0 buffer\n") == "unable to allocate CUDA0 buffer"
    assert log.out_of_memory


def test_progress_dots_are_no_lines() -> None:
    log = LibraryLog()
    log.add(INFO, ".")
    log.add(CONTINUED, ".")
    log.add(INFO, "\n")
    assert log.lines == ()


def test_what_was_asked_for_is_not_what_happened() -> None:
    log = LibraryLog()
    log.add(INFO, "load_tensors: offloaded 31/31 layers to GPU\n")
    for layer in range(31):
        log.add(DEBUG, f"load_tensors: layer {layer:3d} assigned to device CPU, is_swa = 0\n")
    assert log.layers_on(30) == {"CPU": 30}


def test_a_new_load_starts_afresh() -> None:
    log = LibraryLog()
    log.add(ERROR, "bad\n")
    log.add(DEBUG, "load_tensors: layer   0 assigned to device CPU, is_swa = 0\n")
    log.forget()
    assert (log.lines, log.reason, log.layers_on(9)) == ((), "", {})


def test_buffers_are_added_up_over_devices_and_the_last_word_on_a_compute_buffer_counts() -> None:
    log = LibraryLog()
    for line in (
        "load_tensors:   CPU_Mapped model buffer size =    92.00 MiB",
        "load_tensors:        CUDA0 model buffer size =   100.00 MiB",
        "llama_context:        CPU  output buffer size =     3.00 MiB",
        "llama_kv_cache:        CPU KV buffer size =   180.00 MiB",
        "llama_kv_cache:        CPU KV buffer size =    20.00 MiB",
        "llama_memory_recurrent:        CPU RS buffer size =     1.50 MiB",
        "sched_reserve:        CPU compute buffer size =    14.00 MiB",
        "sched_reserve:        CPU compute buffer size =    21.00 MiB",
        "llama_kv_cache: size =  180.00 MiB (  8192 cells,  30 layers, 16/1 seqs), K (f16):   90.00 MiB",
    ):
        log.add(INFO, line + "\n")
    assert log.memory == int(417.5 * 2**20)
    log.forget()
    assert log.memory == 0
