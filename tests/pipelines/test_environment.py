from __future__ import annotations

import platform

import torch

from omnirt_lab.pipelines.environment import environment


def test_the_environment_names_what_changes_bits():
    facts = environment()

    assert facts.python == platform.python_version()
    assert facts.packages["torch"] == torch.__version__
    assert "omnirt-lab" in facts.packages
    assert facts.cpu


def test_the_thread_count_is_the_one_of_now():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert environment().torch_threads == 2
    finally:
        torch.set_num_threads(before)
    assert environment().torch_threads == before
