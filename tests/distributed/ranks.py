"""Processes that stay: starting them costs more than what they do here."""

import multiprocessing
import os
import pickle
import time
import traceback
import warnings
from datetime import timedelta
from multiprocessing.connection import wait

import torch
import torch.distributed as dist

PATIENCE = 60.0


class Ranks:
    """Runs a function in every process of a group.

        with Ranks(2, folder) as ranks:
            values = ranks(function, "argument")  # of function("argument"), by rank

    The function stands at the top of a module. What it raises is raised here.
    """

    def __init__(self, size, folder):
        self._size, self._folder, self._starts = size, folder, 0
        self._processes, self._pipes = [], []

    def __call__(self, function, *args):
        if not self._processes:
            self._start()
        for pipe in self._pipes:
            pipe.send_bytes(pickle.dumps((function, args)))
        answers, end = {}, time.monotonic() + PATIENCE
        while waiting := [pipe for pipe in self._pipes if pipe not in answers]:
            ready = wait(waiting, max(0.0, end - time.monotonic()))
            if not ready:
                ranks = [self._pipes.index(pipe) for pipe in waiting]
                self.stop()
                raise TimeoutError(f"ranks {ranks} do not answer; the others: {answers.values()}")
            for pipe in ready:  # the first that fails: the others may wait for it
                rank = self._pipes.index(pipe)
                try:
                    good, answers[pipe] = pickle.loads(pipe.recv_bytes())
                except (EOFError, ConnectionError):
                    good, answers[pipe] = False, "died"
                if not good:
                    self.stop()
                    raise AssertionError(f"rank {rank}:\n{answers[pipe]}")
        return [answers[pipe] for pipe in self._pipes]

    def _start(self):
        self._starts += 1
        spawn = multiprocessing.get_context("spawn")
        store = f"{self._folder}/store-{self._starts}"
        for rank in range(self._size):
            mine, other = spawn.Pipe()
            process = spawn.Process(
                target=_serve, args=(rank, self._size, store, other), daemon=True
            )
            process.start()
            other.close()
            self._processes.append(process)
            self._pipes.append(mine)

    def stop(self):
        """Ends the processes; the next call starts new ones."""
        for pipe in self._pipes:
            pipe.close()
        for process in self._processes:
            process.join(5)
            if process.is_alive():
                process.kill()
                process.join()
        self._processes, self._pipes = [], []

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.stop()


def _serve(rank, size, store, pipe):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{store}",
        rank=rank,
        world_size=size,
        timeout=timedelta(seconds=PATIENCE / 2),
    )
    try:
        while True:
            function, args = pickle.loads(pipe.recv_bytes())
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of torch.distributed about itself
                    answer = True, function(*args)
            except Exception:
                answer = False, traceback.format_exc()
            pipe.send_bytes(pickle.dumps(answer))
    except (EOFError, ConnectionError):  # the tests are over
        dist.destroy_process_group()
