"""Memory that is used again: whole, by one tensor at a time, and given back when asked for."""

import gc
import multiprocessing
import subprocess
import sys
import threading

import pytest
import torch

from longdoc.kernels import causal_conv1d, memory

CPU = torch.device("cpu")
LARGE = (2**10, 2**10)


@pytest.fixture
def blocks(monkeypatch):
    own = memory.Blocks()
    own.active = True
    monkeypatch.setattr(memory, "BLOCKS", own)
    return own


def test_a_block_is_used_again_when_the_last_tensor_in_it_is_gone(blocks):
    first = memory.empty(LARGE, torch.float32, CPU)
    place, view = first.data_ptr(), first[3:, 5]
    del first
    assert blocks.lent == 2**22
    other = memory.empty(LARGE, torch.float32, CPU)
    assert other.data_ptr() != place
    del view
    assert memory.empty(LARGE, torch.float32, CPU).data_ptr() == place


def test_two_tensors_at_a_time_never_share_memory(blocks):
    tensors = [memory.empty(LARGE, torch.bfloat16, CPU).fill_(n) for n in range(5)]
    del tensors[1]
    tensors.append(memory.empty((1000, 1000), torch.bfloat16, CPU).fill_(7))
    assert [x.float().unique().tolist() for x in tensors] == [[0], [2], [3], [4], [7]]


def test_autograd_gives_memory_back(blocks):
    x = memory.empty(LARGE, torch.float32, CPU).normal_().requires_grad_()
    for _ in range(3):
        y = (x * 2).sin()
        y.sum().backward()
        x.grad = None
    del x, y
    gc.collect()
    assert blocks.lent == 0


def test_free_blocks_are_given_back_when_asked_for(blocks):
    kept = memory.empty(LARGE, torch.float32, CPU)
    for _ in range(3):
        memory.empty(LARGE, torch.float32, CPU)
    assert blocks.held() == 2 * 2**22
    blocks.release()
    assert blocks.held() == blocks.lent == 2**22
    kept.fill_(1)


@pytest.mark.parametrize("shape", [(), (0, 5), (3, 4)])
def test_small_tensors_are_torchs_own(blocks, shape):
    assert memory.empty(shape, torch.float32, CPU).shape == shape
    assert blocks.held() == 0


def test_nothing_is_kept_before_it_is_asked_for():
    assert not memory.Blocks().active


def test_documents_of_rising_length_do_not_pile_blocks_up(blocks):
    most = 0
    for thousand in range(1, 17):
        tensors = [memory.empty((thousand * 1024, 256), torch.float32, CPU) for _ in range(8)]
        most = max(most, blocks.lent)
        assert blocks.held() <= 1.5 * most
        del tensors


def test_where_the_system_has_no_more_free_blocks_go_first(blocks, monkeypatch):
    made, refused = memory._Block, []

    def sparing(size):
        if blocks.held() + size > 6 * 2**22:
            refused.append(size)
            raise OSError(12, "Cannot allocate memory")
        return made(size)

    monkeypatch.setattr(memory, "_Block", sparing)
    kept = memory.empty(LARGE, torch.float32, CPU)
    del (large := [memory.empty((2, *LARGE), torch.float32, CPU) for _ in range(2)])[:]
    del large
    assert memory.empty((5, *LARGE), torch.float32, CPU).shape == (5, *LARGE)
    with pytest.raises(MemoryError, match="no memory for a tensor of 41943040 bytes"):
        memory.empty((10, *LARGE), torch.float32, CPU)
    assert refused
    kept.fill_(1)


def test_a_tensor_may_be_changed_in_place_like_any_other_result(blocks):
    x = torch.randn(1, 600, 600, requires_grad=True)
    y = causal_conv1d(x, torch.randn(600, 4))
    y *= 2
    y.sum().backward()
    assert blocks.held() > 0
    assert not memory.empty(LARGE, torch.float32, CPU)._is_view()


def _write_in_child(kept, queue):
    kept.fill_(9)
    other = memory.empty(LARGE, torch.float32, CPU).fill_(7)
    queue.put(float(other[0, 0]))


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_has_memory_of_its_own(blocks):
    kept = memory.empty(LARGE, torch.float32, CPU).fill_(1)
    memory.empty(LARGE, torch.float32, CPU)  # free now, in parent and child
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    child = context.Process(target=_write_in_child, args=(kept, queue))
    child.start()
    torch.set_num_threads(threads)
    try:
        other = memory.empty(LARGE, torch.float32, CPU).fill_(5)
        assert queue.get(timeout=60) == 7
    finally:
        child.join(timeout=10)
        child.kill()
    assert kept.unique().tolist() == [1]
    assert other.unique().tolist() == [5]


def test_several_threads_share_the_blocks(blocks):
    wrong = []

    def work(number):
        for _ in range(50):
            x = memory.empty(LARGE, torch.bfloat16, CPU).fill_(number)
            if not bool((x == number).all()):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_process_that_ends_with_tensors_in_blocks_ends_quietly():
    code = (
        "import torch; from longdoc.kernels import memory; memory.keep(); "
        "x = memory.empty((1024, 1024), torch.float32, torch.device('cpu')); x.fill_(1)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stderr == ""
