"""Execution in place: any chain, in as few passes over memory as it has reductions, plus one.

The engine's ten nouns, and where each lives:

* **step inputs** (`_step`, `StepInputs`): what one step works on, that is parameters, gradients and
  slots by index, the bucket of each, and the stages with their hyperparameters. The eager step,
  operation by operation, is there, too.
* **engine** (`_engine`, `Engine`; what may be chosen, in `_options`): chooses the backend of a
  step: kernels that are traced (`_traced_backend`), a fused kernel of torch for chains that have
  one (`_torch_backend`), or the eager step. An optimizer uses it, and `donated` (`_donated`), the
  pure form in place. Out of place (`_pure`), the same kernels write into `Results`: fresh memory,
  in `_huge_pages` where it is large; what steps free, the process keeps (`_freed_memory`).
  `CheckedTrees` (`_trees`) make step inputs of the trees of both pure forms. Where trees are like
  those before, machine code finds their leaves (`_known_trees`, `KnownTrees`): in a `ReadyUpdate`
  (`_ready_update`), and in sums of parameters and updates (`_ready_sum`).
* **block** (`_blocks`, `Block`): tensors that share a kernel, as columns of parameters, gradients
  and slots. A `BlockLayout` (`_block_layout`) groups the tensors of a step into blocks, and each
  block into cells, whose tensors share a row of scalars. `Tasks` are pieces of tensors.
* **symbol** (`_symbols`, `Symbol`, `ScalarSymbol`): what stands for a tensor or a scalar while it
  is traced. The metadata of results is found by running on the meta device (`_meta_inference`).
* **graph** (`_graph`, `Graph`; its calls in `_calls`): the operations on one tensor, as they are
  traced.
* **tracer** (`_tracer`, `Tracer`): runs the mathematics of a step on symbols, once for each cell.
  What it sees of scalars and of random bits is in `_traced_scalars`.
* **guard** (`_guards`, `Guard`): a value that a trace relies on; where it differs, a `GuardFailed`
  leads to a retrace. A `TensorGuard` (`_tensor_guard`) is one on the metadata of many tensors,
  `_identity` has those on many objects, `_structure` those on transformations.
* **lowered graph** (`_lowering`, `LoweredGraph`): a part of a graph as one pass over memory,
  without dead code; equal ones share a kernel.
* **kernel** (`_kernels`, `Kernel`): a lowered graph that is ready to run. Translated to
  instructions (`_translation`, `Listing`, of `_instructions`), it is bytecode (`_bytecode`,
  `Program`) for the machine of the CPU (`_machine`), where several are one (`_fusion`), or the
  source of one launch on a GPU (`TritonKernel`), or C++ of its own (`_native`, in `_loops`). Else
  it is functions of lists (`_foreach`), or a function of vectors in a loop. How many threads it is
  worth (`_threads`), and whether caches hold what it works on (`_caches`), was `_measured` on this
  computer. Machine code lies in `_libraries`, which
  `_kept_files` keeps on disk.
* **compiled step** (`_replay`, `CompiledStep`): the launches of a step, each a kernel over tasks of
  a block, in passes that end with a reduction (`ReductionPass`), with a rule that sees whole
  tensors (`WholePass`, in `_whole`), or with the results. The calls of such a rule are noted once
  on a CPU (`_call_log`, `CallLog`): in its `Plan` (`_plan`; all of a rule in `_plans`) what is done
  by entries, and sums over rows and columns, are passes over tiles of matrices (`_tiles`,
  `TilePass`), as a `Planner` (`_planner`) divides them. What a stage concludes from a reduction
  (`Conclusion`, in `_conclusion`) is a kernel, too, of a graph of 0-d tensors (`ScalarGraph`, in
  `_scalar_graph`; what it returns is a `ScalarCode`, in `_scalar_code`): bytecode on the CPU
  (`_host_scalars`), a launch on a GPU, where functions of step counts and flags that are there
  become one as well (`Deferred`). A `Replay` goes the way that this step
  decides on: its stages run with a `StandIn` for every tensor. Where steps repeat, an optimizer has
  `ReadyKernels` (`_ready`), and a `ReadyGuard` (`_ready_guard`) instead of all others: a few calls
  of machine code (`_ready_call`). What stages do with counts, and with other `MemoryNumbers`
  (`_memory_numbers`; those of float64 are `Wide`, in `_wide_numbers`), is a `RecordedStep`
  (`_recorded`), a function of Python, made by what happened to a `Number` (`_noted_numbers`) in
  each way through the decisions (`_recording`, `Recording`); what rules prepare of a count that is
  `Withheld` (`_withheld`) is a constant of it.
  Hyperparameters that have changed are its `GivenValues` (`_given_values`).

The way of a step: `Engine.step` gets step inputs. `TracedBackend` lays the tensors out in blocks.
If there is a compiled step whose guards hold, it is replayed: scalars are read, kernels launched.
Otherwise the step is traced: at every reduction, and at the end, the graphs are lowered, and their
kernels compiled and launched. A step that cannot be traced raises `Unsupported`, and runs eagerly.
"""

from . import _pure as _pure  # which takes over the pure form
from . import _ready_sum as _ready_sum
from ._donated import Donated as Donated
from ._donated import donated as donated
from ._engine import Engine as Engine
from ._given_values import GivenValues as GivenValues
from ._given_values import changed_values as changed_values
from ._guards import GuardFailed as GuardFailed
from ._guards import Unsupported as Unsupported
from ._identity import addresses as addresses
from ._identity import dicts_hold as dicts_hold
from ._identity import identical as identical
from ._kept_files import cache_folder as cache_folder
from ._kernels import interpret_in_chunks as interpret_in_chunks
from ._memory_numbers import MemoryNumbers as MemoryNumbers
from ._options import EngineOption as EngineOption
from ._options import pure_engine as pure_engine
from ._ready import ReadyKernels as ReadyKernels
from ._ready_guard import ContentsGuard as ContentsGuard
from ._ready_guard import ReadyGuard as ReadyGuard
from ._step import StepInputs as StepInputs
from ._structure import same_structure as same_structure
from ._tensor_guard import TensorGuard as TensorGuard
from ._traced_backend import is_device as is_device
