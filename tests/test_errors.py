"""Mistakes, and the sentence that each of them gets. Nothing is changed by a failed call."""

import copy

import pytest
import torch

import funcopt as fo
from funcopt import optim

W, B = torch.tensor([[1.0, 2.0]]), torch.tensor([3.0])
PARAMS = {"w": W, "b": B}


WHOLE = fo.from_functions(lambda params: (), lambda updates, state, params: (updates, state))
BRANCHES = {"a": fo.sgd(0.1), "b": fo.adamw(0.1)}


class dict_of_slots(fo.TensorRule):
    def init_tensor(self, p):
        return {"mean": torch.zeros_like(p)}

    def update_tensor(self, g, slots, p, s):
        return g, slots


class plain_slots(fo.TensorRule):
    elementwise = True

    def init_tensor(self, p):
        return (torch.zeros_like(p),)

    def update_tensor(self, g, slots, p, s):
        return g, slots


class plain_memory(fo.TensorRule):
    elementwise = True

    def init_memory(self, like):
        return (like * 0,)

    def update_tensor(self, g, slots, p, s):
        return g, slots


class no_slots(fo.TensorRule):
    def update_tensor(self, g, slots, p, s):
        return 2 * g


class too_short(fo.TensorRule):
    def update_tensor(self, g, slots, p, s):
        return g.flatten()[:1], slots


def stepped(opt):
    (p,) = opt.param_groups[0]["params"]
    p.grad = torch.ones_like(p)
    opt.step()
    return opt


class says_nothing(fo.TensorRule):
    memory_per = "tree"

    def update_tensor(self, g, slots, p, s):
        return g, slots


class newton(fo.TensorRule):
    tensor_extra = ("hessian",)
    elementwise = True

    def update_tensor(self, g, slots, p, s):
        return -g / s.hessian, slots

    def sign(self):
        return -1


def stepping_with_a_hessian(hessian):
    p = parameter()
    p.grad = torch.ones(1)
    fo.Optimizer([("p", p)], newton()).step(hessian=hessian)


def stepped_groups(cls, second):
    groups = [{"params": [parameter()]}, {"params": [parameter()], **second}]
    opt = cls(groups)
    for group in opt.param_groups:
        group["params"][0].grad = torch.ones(1)
    opt.step()


def step_among_averages():
    opt = stepped(fo.Optimizer([parameter()], fo.chain(fo.sgd(0.1), fo.ema_of_params(0.9))))
    with opt.averaged():
        opt.step()


def load_into_sgd():
    saved = stepped(optim.AdamW([("a", parameter())])).state_dict()
    optim.SGD([("a", parameter())], momentum=0.9).load_state_dict(saved)


def updating(tx, grads, params=PARAMS, state=None, **extra):
    return lambda: tx.update(grads, tx.init(PARAMS) if state is None else state, params, **extra)


def stepping(set_up):
    def step():
        p = torch.nn.Parameter(torch.ones(2))
        p.grad = torch.ones(2)
        opt = optim.AdamW([p], lr=fo.constant_schedule(0.1))
        set_up(opt, p)
        opt.step()

    return step


def unscheduled(group):
    p = torch.nn.Parameter(torch.ones(2))
    optim.SGD([p], nesterov=True, momentum=0.9).add_param_group(group)


def parameter():
    return torch.nn.Parameter(torch.ones(1))


MISTAKES = {
    "a negative lr": (
        lambda: fo.adamw(lr=-1.0),
        ValueError,
        "`adamw`, in `scale_by_learning_rate`: `lr` must not be negative, got -1.0.",
    ),
    "a beta of 1": (
        lambda: fo.scale_by_adam((0.9, 1.0)),
        ValueError,
        "`scale_by_adam`: `betas[1]` must lie in [0, 1), got 1.0.",
    ),
    "one beta": (
        lambda: fo.adam(betas=0.9),
        ValueError,
        "`adam`, in `scale_by_adam`: `betas` must be a tuple of 2 numbers, got 0.9.",
    ),
    "one beta where two are taken apart": (
        lambda: fo.schedule_free_adamw(betas=0.9),
        ValueError,
        "`schedule_free_adamw`: `betas` must be a tuple of 2 numbers, got 0.9.",
    ),
    "one beta of MARS": (
        lambda: fo.mars(betas=0.9),
        ValueError,
        "`mars`: `betas` must be a tuple of 2 numbers, got 0.9.",
    ),
    "one epsilon of Adafactor": (
        lambda: fo.adafactor(eps=1e-3),
        ValueError,
        "`adafactor`: `eps` must be a tuple of 2 numbers, got 0.001.",
    ),
    "a step size whose least is its greatest": (
        lambda: fo.rprop(step_sizes=(1.0, 0.1)),
        ValueError,
        "`rprop`, in `scale_by_rprop`: `step_sizes` must be a pair (min, max), got (1.0, 0.1).",
    ),
    "one dimension for a tuple": (
        lambda: fo.adaptive_grad_clip(dims=1),
        ValueError,
        "`adaptive_grad_clip`: `dims` must be a tuple of whole numbers such as (0, 1), got 1.",
    ),
    "a decay rate of 0 where it is divided by": (
        lambda: fo.dadapt_adamw(betas=(0.9, 0.0)),
        ValueError,
        "`dadapt_adamw`, in `scale_by_dadapt_adam`: `betas[1]` must lie between 0 and 1, got 0.0.",
    ),
    "groups that differ in what one number is made of": (
        lambda: stepped_groups(optim.Prodigy, {"betas": (0.8, 0.9)}),
        ValueError,
        "`scale_by_prodigy` shares scalars over all parameters, so `beta3` must be the same in all "
        "parameter groups. It is not, as `betas` differ.",
    ),
    "a vector without a name for Muon": (
        lambda: optim.Muon([parameter()], labels="muon"),
        fo.errors.LeafError,
        "`Muon`, in `scale_by_muon`: a parameter of shape (1,) must be a matrix.",
    ),
    "a class that is not there": (
        lambda: optim.AdaHessian,
        AttributeError,
        "`funcopt.optim` has no `AdaHessian`: that is another library's. There is no counterpart; "
        "the nearest is `fo.sophia()`.",
    ),
    "a name for a number": (
        lambda: fo.scale("fast"),
        ValueError,
        "`scale`: `factor` must be a number, a 0-d tensor or a schedule, got 'fast'.",
    ),
    "a vector for a number": (
        lambda: fo.scale(torch.ones(3)),
        ValueError,
        "`scale`: `factor` must be a single number, got a tensor of shape (3,). Inside "
        "`torch.func.vmap` each run sees its own 0-d tensor.",
    ),
    "a limit of zero": (
        lambda: fo.clip_by_global_norm(0.0),
        ValueError,
        "`clip_by_global_norm`: `max_norm` must be positive, got 0.0.",
    ),
    "a schedule without steps": (
        lambda: fo.cosine_decay_schedule(0.1, 0),
        ValueError,
        "`cosine_decay_schedule`: `decay_steps` must be a positive whole number of updates, "
        "got 0. A "
        "schedule without steps is a `constant_schedule`.",
    ),
    "a pair of functions as a stage": (
        lambda: fo.chain(fo.scale(1.0), (len, len)),
        ValueError,
        "`chain`: expected gradient transformations, got (<built-in function len>, <built-in "
        "function len>). A pair of functions becomes one with `from_functions(init, update)`.",
    ),
    "a class as a stage": (
        lambda: fo.chain(fo.scale_by_adam),
        ValueError,
        "`chain`: expected gradient transformations, got the class `scale_by_adam`: call it, with "
        "its hyperparameters.",
    ),
    "a function as a stage": (
        lambda: fo.chain(fo.adamw),
        ValueError,
        "`chain`: expected gradient transformations, got the function `adamw`: call it, if it "
        "makes one, as in `adamw(1e-3)`.",
    ),
    "a list of stages": (
        lambda: fo.chain([fo.scale(1.0), fo.scale(2.0)]),
        ValueError,
        "`chain`: expected gradient transformations, got a list: write `chain(*stages)`.",
    ),
    "a schedule for what is used once": (
        lambda: fo.scale_by_adagrad(initial_accumulator_value=fo.constant_schedule(0.1)),
        ValueError,
        "`scale_by_adagrad`: `initial_accumulator_value` is used once, by `init`: it must be a "
        "number, got constant_schedule(0.1).",
    ),
    "no params": (
        updating(fo.sgd(weight_decay=0.1), PARAMS, None),
        ValueError,
        "`add_decayed_weights` needs the parameters: call `update(updates, state, params)`.",
    ),
    "a gradient too few": (
        updating(fo.adam(), {"w": W}),
        ValueError,
        "`chain`: the state belongs to other parameters than the updates ['w']; call "
        "`init(params)` again.",
    ),
    "other params": (
        updating(fo.adam(), PARAMS, {"w": W, "c": B}),
        ValueError,
        "`chain`: `params` must have the structure of the updates; only the updates have ['b'], "
        "only `params` has ['c'].",
    ),
    "a gradient of another shape": (
        updating(fo.adam(), {"w": W.T, "b": B}),
        ValueError,
        "`chain`: the gradient of `w` must have the parameter's shape (1, 2), got (2, 1).",
    ),
    "a number for a gradient": (
        updating(fo.adam(), {"w": 1.0, "b": B}),
        TypeError,
        "`chain`: the gradient of `w` must be a tensor or None, got 1.0.",
    ),
    "a sparse gradient": (
        updating(fo.sgd(), {"w": W.to_sparse(), "b": B}),
        RuntimeError,
        "`chain` does not support sparse gradients, and that of `w` is: make it dense with "
        "`grad.to_dense()`, or build the embedding with `sparse=False`.",
    ),
    "the state of another transformation": (
        updating(fo.adam(), PARAMS, state=()),
        ValueError,
        "`chain`: the state, of type `tuple`, was made by another transformation or for other "
        "parameters: call `init(params)` on this one.",
    ),
    "momentum switched on behind the back of the state": (
        updating(fo.trace(0.9), PARAMS, state=fo.trace(0.0).init(PARAMS)),
        ValueError,
        "`trace`: the state was made with a momentum of 0 and has no buffer; call `init(params)` "
        "with the new momentum.",
    ),
    "an extra argument that nobody knows": (
        updating(fo.adam(), PARAMS, value=1.0),
        TypeError,
        "`chain`: no stage takes the extra arguments ['value']; those taken are [].",
    ),
    "an integer leaf": (
        lambda: fo.adam().init({"bn": {"num_batches_tracked": torch.tensor(3)}}),
        TypeError,
        "`chain`: parameter `bn/num_batches_tracked` must be floating-point or complex, got "
        "torch.int64. A `state_dict()` holds integer buffers; use `split_module(model).params`.",
    ),
    "a leaf that is no tensor": (
        lambda: fo.adam().init({"w": W, "activation": torch.relu}),
        TypeError,
        "`chain`: parameter `activation` must be a dense tensor, got "
        "builtin_function_or_method. A tree of tensors is wanted, without what is not trained: "
        "`split_module(model).params`.",
    ),
    "a generator of parameters": (
        lambda: fo.adam().init(torch.nn.Linear(1, 1).parameters()),
        TypeError,
        "`chain`: expected tensors, got generator. A tree of tensors is wanted, without what is "
        "not trained: `split_module(model).params`.",
    ),
    "a tied tensor": (
        lambda: fo.adam().init({"embedding": W, "head": W}),
        ValueError,
        "`chain`: parameters `embedding` and `head` are the same memory, and would be updated "
        "twice. Keep one, as `split_module(model).params` does.",
    ),
    "a tied view": (
        lambda: fo.adam().init({"embedding": W, "head": W.view(1, 2)}),
        ValueError,
        "`chain`: parameters `embedding` and `head` are the same memory, and would be updated "
        "twice. Keep one, as `split_module(model).params` does.",
    ),
    "an unknown hyperparameter": (
        lambda: fo.with_hyperparams(fo.sgd(), {"rate": 0.1}),
        ValueError,
        "`with_hyperparams`: unknown hyperparameter `rate`. There are ['weight_decay', "
        "'momentum', 'dampening', 'lr'], by full path ['0/weight_decay', '1/momentum', "
        "'1/dampening', '2/lr'].",
    ),
    "an update of another shape": (
        lambda: fo.apply_updates({"w": W}, {"w": W.T}),
        ValueError,
        "`apply_updates`: the update of `w` must have the parameter's shape (1, 2), got one of "
        "shape (2, 1).",
    ),
    "a checkpoint of another transformation": (
        lambda: fo.load_state_dict(fo.trace(0.9).init(B), fo.state_dict(fo.ema(0.9).init(B))),
        ValueError,
        "`load_state_dict`: this state belongs to another transformation or to other parameters. "
        "Missing: ['slots/momentum_buffer']. Unknown: ['slots/ema']. Shape mismatch: [].",
    ),
    "an optimizer around nothing": (
        lambda: fo.Optimizer([parameter()], torch.optim.AdamW),
        ValueError,
        "`Optimizer`: `tx` must be a transformation such as `adamw(1e-3)`, got <class "
        "'torch.optim.adamw.AdamW'>.",
    ),
    "an argument that torch does not know either": (
        lambda: optim.SGD([parameter()], lr=0.1, betas=(0.9, 0.99)),
        TypeError,
        "`SGD`: unknown argument `betas`. It takes (params, lr=0.001, momentum=0, dampening=0, "
        "weight_decay=0, nesterov=False, *, maximize=False, foreach=None, differentiable=False, "
        "fused=None, state_dtype=None, capturable=False, max_grad_norm=None, ema=None, "
        "accumulate=None, quantized=None, rounding=None, offload=False, engine='auto').",
    ),
    "a learning rate that is not a number": (
        lambda: optim.AdamW([parameter()], lr=float("nan")),
        ValueError,
        "`AdamW`, in `scale_by_learning_rate`: `lr` must be a number, got nan.",
    ),
    "a learning rate without end": (
        lambda: fo.adamw(float("inf")),
        ValueError,
        "`adamw`, in `scale_by_learning_rate`: `lr` must be finite, got inf.",
    ),
    "a weight decay without end": (
        lambda: optim.SGD([parameter()], weight_decay=float("inf")),
        ValueError,
        "`SGD`, in `add_decayed_weights`: `weight_decay` must be finite, got inf.",
    ),
    "a decay rate that is not a number": (
        lambda: fo.adamw(betas=(0.9, float("nan"))),
        ValueError,
        "`adamw`, in `scale_by_adam`: `betas[1]` must be a number, got nan.",
    ),
    "a negative lr in one group": (
        lambda: optim.SGD([{"params": [parameter()], "lr": -1.0}]),
        ValueError,
        "`SGD`, in `scale_by_learning_rate` of parameter group 0: `lr` must not be negative, got "
        "-1.0.",
    ),
    "groups that differ in more than numbers": (
        lambda: unscheduled({"params": [parameter()], "nesterov": False}),
        ValueError,
        "`SGD`: `nesterov` of stage 1 must be the same in all groups, got True in group 0 and "
        "False in group 1: only hyperparameters may differ.",
    ),
    "a scheduler on top of a schedule": (
        stepping(lambda opt, p: opt.param_groups[0].update(lr=0.5)),
        ValueError,
        "`AdamW`: `lr` of parameter group 0 follows constant_schedule(0.1) and cannot be set, got "
        "0.5. Use the schedule or a scheduler, not both.",
    ),
    "a bad number set while training": (
        stepping(lambda opt, p: opt.param_groups[0].update(betas=(0.9, 2.0))),
        ValueError,
        "`AdamW`, in `scale_by_adam` of parameter group 0: `betas[1]` must lie in [0, 1), got 2.0.",
    ),
    "a sparse gradient in an optimizer": (
        stepping(lambda opt, p: setattr(p, "grad", p.grad.to_sparse())),
        RuntimeError,
        "`AdamW` does not support sparse gradients, and that of parameter `0.0` is: build the "
        "embedding with `sparse=False`.",
    ),
    "a module for its parameters": (
        lambda: optim.AdamW(torch.nn.Linear(2, 1)),
        TypeError,
        "`AdamW`: `params` is a module, `Linear`: pass its parameters, `model.parameters()`, or "
        "with their names, `model.named_parameters()`.",
    ),
    "a module that is a sequence for its parameters": (
        lambda: fo.Optimizer(torch.nn.Sequential(torch.nn.Linear(2, 1)), fo.adamw()),
        TypeError,
        "`Optimizer`: `params` is a module, `Sequential`: pass its parameters",
    ),
    "a module in a group": (
        lambda: optim.AdamW([{"params": torch.nn.Linear(2, 1)}]),
        TypeError,
        "`AdamW`: `params` of parameter group 0 is a module, `Linear`: pass its parameters",
    ),
    "modules in a list": (
        lambda: optim.AdamW([parameter(), torch.nn.Linear(2, 1)]),
        TypeError,
        "`AdamW`: optimizer can only optimize Tensors, but one of the params is "
        "torch.nn.modules.linear.Linear: entry 1 of parameter group 0 is a module, `Linear`: pass",
    ),
    "a state dict for parameters": (
        lambda: optim.AdamW({"weight": parameter()}),
        TypeError,
        "`AdamW`: `params` is a dict with the keys ['weight']: pairs of name and tensor are "
        "`list(params.items())`.",
    ),
    "a group that is in no list": (
        lambda: optim.AdamW({"params": [parameter()]}),
        TypeError,
        "`AdamW`: `params` is a dict with the keys ['params']: a parameter group stands in a list",
    ),
    "no parameters at all": (
        lambda: optim.AdamW(None),
        TypeError,
        "`AdamW`: `params` must be parameters, such as `model.parameters()`, pairs, such as "
        "`model.named_parameters()`, or a list of parameter groups, got None.",
    ),
    "an iterator that was used": (
        lambda: (lambda params: (list(params), optim.AdamW(params)))(iter([parameter()])),
        ValueError,
        "`AdamW`: optimizer got an empty parameter list. An iterator, such as "
        "`model.parameters()`, is empty after its first use",
    ),
    "a group without parameters": (
        lambda: optim.AdamW([{"lr": 1.0}]),
        TypeError,
        "`AdamW`: parameter group 0 has no `params`, only ['lr']: add the list of its parameters.",
    ),
    "a list for a group that is added": (
        lambda: optim.AdamW([parameter()]).add_param_group([parameter()]),
        TypeError,
        "`AdamW`: param_group must be a dict, such as {'params': [p]}, but got",
    ),
    "a named parameter in two groups": (
        lambda: (lambda p: optim.SGD([{"params": [("a", p)]}, {"params": [("b", p)]}]))(
            parameter()
        ),
        ValueError,
        "`SGD`: some parameters appear in more than one parameter group: 'b', of shape (1,), is in "
        "group 0, as 'a', and again in group 1. Leave it out of one of the two.",
    ),
    "names in some of the groups": (
        lambda: optim.SGD([{"params": [parameter()]}, {"params": [("b", parameter())]}]),
        ValueError,
        "`SGD`: all optimizer param groups should be with/without names. cannot add param group "
        "with names to the optimizer: parameter group 1 is with names, group 0 without names.",
    ),
    "Muon without names": (
        lambda: optim.Muon(torch.nn.Linear(3, 2).parameters()),
        ValueError,
        "`Muon`, in `hidden_weights`: the weights of hidden layers are recognized by their names, "
        "and a matrix of shape (2, 3) has none: pass `model.named_parameters()`, in parameter "
        "groups as lists of pairs, `{'params': list(module.named_parameters())}`; or `labels`",
    ),
    "Muon of groups without names": (
        lambda: optim.Muon([{"params": list(torch.nn.Linear(3, 2).parameters())}]),
        ValueError,
        "`Muon`, in `hidden_weights`: the weights of hidden layers are recognized by their names",
    ),
    "a set of parameters": (
        lambda: optim.AdamW([{"params": {parameter()}}]),
        TypeError,
        "`AdamW`: optimizer parameters need to be organized in ordered collections, but the "
        "ordering of tensors in sets will change between runs. Please use a list instead.",
    ),
    "one bare parameter": (
        lambda: optim.AdamW(parameter()),
        TypeError,
        "`AdamW`: params argument given to the optimizer should be an iterable of Tensors or "
        "dicts, but got torch.FloatTensor",
    ),
    "no parameters": (
        lambda: optim.AdamW([]),
        ValueError,
        "`AdamW`: optimizer got an empty parameter list",
    ),
    "a number among the parameters": (
        lambda: optim.AdamW([1.0]),
        TypeError,
        "`AdamW`: optimizer can only optimize Tensors, but one of the params is float",
    ),
    "a parameter in two groups": (
        lambda: (lambda p: optim.SGD([{"params": [p]}, {"params": [p]}]))(parameter()),
        ValueError,
        "`SGD`: some parameters appear in more than one parameter group",
    ),
    "a result of an operation as a parameter": (
        lambda: optim.SGD([parameter() * 2]),
        ValueError,
        "`SGD`: can't optimize a non-leaf Tensor",
    ),
    "names for some of the parameters": (
        lambda: optim.SGD([("a", parameter()), parameter()]),
        ValueError,
        "`SGD`: all optimizer params should be with/without names. Some param names are missing",
    ),
    "a pattern without names": (
        lambda: fo.Optimizer([parameter()], fo.partition(BRANCHES, [("w", "a"), (".*", "b")])),
        ValueError,
        "`Optimizer`, in `partition`: the pattern 'w' needs names, and the parameters have "
        "none: pass `model.named_parameters()`.",
    ),
    "a pattern that fits nothing": (
        lambda: fo.partition(BRANCHES, [("^v$", "a"), (".*", "b")]).init(PARAMS),
        ValueError,
        "`partition`: the pattern '^v$' of label 'a' fits none of the parameters ['b', 'w'].",
    ),
    "a parameter that nothing fits": (
        lambda: fo.partition(BRANCHES, [("w", "a")]).init(PARAMS),
        ValueError,
        "`partition`: nothing fits parameter `b` of shape (1,): end the list with a pair "
        "such as (r'.*', label).",
    ),
    "a label without a transformation": (
        lambda: fo.partition(BRANCHES, {"w": "a", "b": "c"}).init(PARAMS),
        ValueError,
        "`partition`: parameter `b` has the label 'c', and there are only transformations "
        "for ['a', 'b'].",
    ),
    "a branch that sees whole trees": (
        lambda: fo.partition({"a": WHOLE}, "a"),
        ValueError,
        "`partition`: 'a' must be a transformation that works tensor by tensor, got "
        "from_functions(<lambda>, <lambda>).",
    ),
    "an average inside that is not last": (
        lambda: fo.chain(fo.skip_if(fo.chain(fo.sgd(0.1), fo.ema_of_params(0.9))), fo.scale(0.5)),
        ValueError,
        "`chain`: `ema_of_params` needs the final update, and has to come after every stage that "
        "changes updates, as scale(0.5) does.",
    ),
    "an average that is not last": (
        lambda: fo.chain(fo.ema_of_params(0.9), fo.sgd(0.1)),
        ValueError,
        "`chain`: `ema_of_params` needs the final update, and has to come after every stage that "
        "changes updates, as add_decayed_weights(0.0) does.",
    ),
    "a schedule that was not made": (
        lambda: fo.adamw(fo.cosine_decay_schedule),
        ValueError,
        "`adamw`, in `scale_by_learning_rate`: `lr` is the class `cosine_decay_schedule`: "
        "call it, to make a schedule.",
    ),
    "a function of the whole tree for a mask": (
        lambda: fo.masked(fo.trace(0.9), lambda tree: tree).init(PARAMS),
        ValueError,
        "`masked`: a function that labels is called as `(name, tensor)`, and that failed: ",
    ),
    "arguments in another order": (
        lambda: fo.eval_params(fo.sgd(), PARAMS, fo.sgd().init(PARAMS)),
        ValueError,
        "`eval_params`: the state, of type `dict`, was made by another transformation. The order "
        "is `eval_params(tx, state, params)`.",
    ),
    "a dict for slots": (
        lambda: dict_of_slots().init(PARAMS),
        ValueError,
        "`dict_of_slots.init_tensor` must return a named tuple of tensors, or (), got dict: its "
        "fields are the keys of a checkpoint. Declare a class",
    ),
    "an update without its slots": (
        updating(no_slots(), PARAMS),
        ValueError,
        "`no_slots.update_tensor` must return the update and the slots, got Tensor.",
    ),
    "an update that is too short": (
        updating(too_short(), PARAMS),
        ValueError,
        "`too_short`: the update of `w` must have the gradient's shape (1, 2), got (1,).",
    ),
    "a scheduler put on a schedule": (
        stepping(lambda opt, p: torch.optim.lr_scheduler.StepLR(opt, 30)),
        ValueError,
        "`AdamW`: a scheduler has been put on parameter group 0, whose `lr` follows "
        "constant_schedule(0.1). Use the "
        "schedule or a scheduler, not both.",
    ),
    "a list for an extra argument with a tensor for each parameter": (
        lambda: stepping_with_a_hessian([torch.ones(1)]),
        TypeError,
        "`Optimizer.step`: `hessian` has a tensor for each parameter: pass a dict of them by name, "
        "or by parameter, got a list.",
    ),
    "an extra argument for a parameter that is not there": (
        lambda: stepping_with_a_hessian({"w": torch.ones(1)}),
        ValueError,
        "`Optimizer.step`: `hessian` has ['w'], which is no parameter; there are ['p'].",
    ),
    "an extra argument of another shape": (
        lambda: stepping_with_a_hessian({"p": torch.ones(2)}),
        ValueError,
        "`Optimizer.step`: `hessian` of `p` must be a tensor of its shape (1,), got one of shape "
        "(2,).",
    ),
    "an extra argument that is no tensor": (
        lambda: stepping_with_a_hessian({"p": 1.0}),
        ValueError,
        "`Optimizer.step`: `hessian` of `p` must be a tensor of its shape (1,), got 1.0.",
    ),
    "an extra argument on another device": (
        lambda: stepping_with_a_hessian({"p": torch.ones(1, device="meta")}),
        ValueError,
        "`Optimizer.step`: `hessian` of `p` must be on cpu, as it is, got one on meta.",
    ),
    "an extra argument that a parameter lacks": (
        lambda: stepping_with_a_hessian({}),
        TypeError,
        "`newton` needs the extra argument `hessian` of every parameter that it transforms, and "
        "that of `p` is None.",
    ),
    "a step among averages": (
        lambda: step_among_averages(),
        RuntimeError,
        "`Optimizer.step` inside `averaged()`: the parameters are averages now, and will be put "
        "back. Train outside of it.",
    ),
    "a checkpoint of another algorithm": (
        lambda: load_into_sgd(),
        ValueError,
        "`SGD`: the checkpoint does not fit, and nothing is loaded. Saved by a different "
        "optimizer: [\"parameter group 0: ['betas', 'eps'] instead of ['dampening', "
        "'momentum']\", "
        "\"a: ['exp_avg', 'exp_avg_sq'] instead of ['momentum_buffer']\"].",
    ),
    "a class that only torch has": (
        lambda: optim.SparseAdam,
        AttributeError,
        "`funcopt.optim` has no `SparseAdam`: that is torch's; here it is "
        "`fo.optim.LazyAdam(params)` for dense gradients with rows of zeros; sparse ones are "
        "refused. See docs/from_torch.md.",
    ),
    "accumulation over no steps": (
        lambda: fo.accumulate(fo.sgd(), 0),
        ValueError,
        "`accumulate`: `steps` must be a whole number, at least 1, got 0.",
    ),
    "a condition that is none": (
        lambda: fo.skip_if(fo.sgd(), fo.sgd()),
        ValueError,
        "`skip_if`: `when` must be a condition such as `not_finite()`, a `TensorRule` with "
        '`memory_per = "tree"`, got chain(add_decayed_weights(0.0), trace(0.0), '
        "scale_by_learning_rate(0.001)).",
    ),
    "a condition that says nothing": (
        updating(fo.skip_if(fo.sgd(), says_nothing()), PARAMS),
        ValueError,
        "`skip_if`: `when` must be a condition, whose `conclude` returns `skip`, and "
        "says_nothing() returns none: return `{'skip': ...}, memory`, as `not_finite` does.",
    ),
    "an update without parameters": (
        lambda: fo.from_functions(len, lambda updates, state: (updates, state)),
        ValueError,
        "`from_functions`: `update_fn` is called as `update_fn(updates, state, params)`, and takes "
        "only (updates, state): add what is missing, even if it is not used.",
    ),
    "an init without parameters": (
        lambda: fo.from_functions(lambda: (), pow),
        ValueError,
        "`from_functions`: `init_fn` is called as `init_fn(params)`, and takes only (): add what "
        "is missing, even if it is not used.",
    ),
    "no function": (
        lambda: fo.from_functions(len, None),
        ValueError,
        "`from_functions`: `update_fn` must be a function, `update_fn(updates, state, params)`, "
        "got None.",
    ),
    "an average that nobody keeps": (
        lambda: optim.SGD([parameter()]).averaged().__enter__(),
        ValueError,
        "`SGD`: no stage of chain(add_decayed_weights(0), trace(0), "
        "scale_by_learning_rate(0.001)) keeps an average: add `ema_of_params()` at the end.",
    ),
    "a parameter to drop that is not there": (
        lambda: optim.SGD([("a", parameter())]).drop("b"),
        ValueError,
        "`SGD.drop`: there is no parameter 'b' among ['a']. Names are known if the optimizer "
        "was made of `model.named_parameters()`.",
    ),
    "a map to rows that are not there": (
        lambda: optim.SGD([("a", parameter())]).resize("a", parameter(), torch.tensor([7])),
        ValueError,
        "`SGD.resize`: `index_map` must have an entry below 1 for each of the 1 rows of the "
        "new parameter, got [7].",
    ),
    "a checkpoint of another model": (
        lambda: optim.SGD([("a", parameter())]).load_state_dict(
            optim.SGD([("b", parameter())]).state_dict()
        ),
        ValueError,
        "`SGD`: the checkpoint does not fit, and nothing is loaded. Missing: ['a']. Unknown: "
        "['b']. With `strict=False`, what does not fit is initialized, and parameters in other "
        "groups than before have the options of their groups here.",
    ),
    "a class whose function has an argument without default": (
        lambda: optim.optimizer_class("Mine", lambda lr, beta=0.9: fo.sgd(lr, beta)),
        ValueError,
        "`Mine`: ['lr'] must have a default: give it one, or pass it to `optimizer_class`.",
    ),
}


def assert_says(make, kind, sentence):
    with pytest.raises(kind) as caught:
        make()
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gets_its_sentence(mistake):
    assert_says(*MISTAKES[mistake])


def test_each_kind_of_mistake_is_a_type_of_its_own():
    kinds = [kind for kind in vars(fo.errors).values() if isinstance(kind, type)]
    assert len(kinds) >= 8
    assert all(issubclass(kind, fo.errors.FuncoptError) for kind in kinds)
    kinds.remove(fo.errors.FuncoptError)
    assert all(issubclass(kind, (ValueError, TypeError, RuntimeError)) for kind in kinds)


def test_an_optimizer_whose_name_is_almost_right_is_suggested():
    with pytest.raises(AttributeError) as caught:
        _ = optim.AdmaW
    assert (caught.value.name, caught.value.obj) == ("AdmaW", optim)  # all that Python needs for it


def test_a_failed_step_changes_nothing():
    a, b = (torch.nn.Parameter(torch.ones(2)) for _ in range(2))
    opt = optim.AdamW([a, b])
    a.grad = b.grad = torch.ones(2)
    opt.step()
    before = copy.deepcopy([a, b, opt.state_dict()])
    b.grad = torch.ones(2).to_sparse()
    with pytest.raises(RuntimeError):
        opt.step()
    b.grad = None
    opt.param_groups[0]["lr"] = -1.0
    with pytest.raises(ValueError, match="lr"):
        opt.step()
    opt.param_groups[0]["lr"] = 1e-3
    assert str(before) == str([a, b, opt.state_dict()])


def test_a_parameter_that_a_group_has_twice_is_named():
    p, q = parameter(), parameter()
    with pytest.warns(UserWarning, match="with duplicate .*`SGD`: 'a' and 'c' are one") as w:
        optim.SGD([("a", p), ("b", q), ("c", p)])
    assert len(w) == 1
    assert w[0].filename == __file__
    match = "entry 0 of parameter group 1 and entry 1 of parameter group 1 are one tensor"
    with pytest.warns(UserWarning, match=match):
        optim.SGD([{"params": [q]}, {"params": [p, p]}])


def test_a_list_of_parameters_that_is_a_module_is_one():
    params = torch.nn.ParameterList([torch.ones(2)])
    assert optim.SGD(params).param_groups[0]["params"] == list(params)
    assert optim.SGD([{"params": params}]).param_groups[0]["params"] == list(params)


@pytest.mark.parametrize(
    ("rule", "function"),
    [(plain_slots(), "init_tensor"), (plain_memory(), "init_memory")],
    ids=["slots", "shared scalars"],
)
@pytest.mark.parametrize("around", [fo.chain, lambda tx: fo.accumulate(tx, 2), fo.skip_if])
def test_what_has_no_names_is_refused_alike_before_the_first_step(rule, function, around):
    tx = around(fo.chain(rule, fo.scale_by_learning_rate(0.1)))
    said = f"`{type(rule).__name__}.{function}` must return a named tuple of tensors, or (), got a "
    with pytest.raises(fo.errors.StructureError) as pure:
        tx.init(PARAMS)
    for params in ([parameter()], [torch.nn.Parameter(torch.ones(2, dtype=torch.complex64))]):
        with pytest.raises(fo.errors.StructureError) as wrapped:
            fo.Optimizer(params, tx)
        assert str(wrapped.value) == f"`Optimizer`: {pure.value}"
    assert str(pure.value).startswith(said + "plain tuple: its fields are the keys of a checkpoint")


class reads_values(fo.TensorRule):
    def init_tensor(self, p):
        return fo.scale_by_lion().init_tensor(p * float(p.detach().abs().max()))

    def update_tensor(self, g, slots, p, s):
        return g, slots


def test_a_rule_that_reads_values_at_init_is_constructed():
    opt = fo.Optimizer([parameter()], fo.chain(reads_values(), fo.scale_by_learning_rate(0.1)))
    opt.param_groups[0]["params"][0].grad = torch.ones(1)
    opt.step()
    assert set(opt.state_dict()["state"][0]) == {"step", "exp_avg"}


def test_a_group_that_is_refused_is_not_added():
    opt = optim.SGD([parameter()])
    with pytest.raises(ValueError, match="lr"):
        opt.add_param_group({"params": [parameter()], "lr": -1.0})
    assert len(opt.param_groups) == 1
    opt.param_groups[0]["params"][0].grad = torch.ones(1)
    opt.step()


def test_apply_updates_in_place_writes_all_or_nothing():
    params = {"a": torch.ones(2), "b": torch.ones(2)}
    with pytest.raises(ValueError, match="shape"):
        fo.apply_updates_(params, {"a": torch.ones(2), "b": torch.ones(3)})
    assert torch.equal(params["a"], torch.ones(2))


def test_an_extra_argument_may_be_a_tree_in_the_pure_form():
    tx = newton()
    updates, _ = tx.update(PARAMS, tx.init(PARAMS), PARAMS, hessian=PARAMS)
    assert all(torch.equal(u, -torch.ones_like(u)) for u in updates.values())
    with pytest.raises(TypeError, match="needs the extra argument `hessian`"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)


SWAPPED = {
    "Optimizer": lambda ps: fo.Optimizer(fo.adamw(1e-3), ps),
    "AdamW": lambda ps: fo.optim.AdamW(1e-3, ps),
    "chain": lambda ps: fo.chain(fo.clip(1.0), fo.optim.AdamW(ps)),
    "masked": lambda ps: fo.masked(ps, True),
    "accumulate": lambda ps: fo.accumulate(fo.optim.AdamW(ps), 2),
    "donated": lambda ps: fo.donated(ps),
    "with_hyperparams": lambda ps: fo.with_hyperparams(fo.adamw(), ps),
    "clip": lambda ps: fo.clip({"max_value": ps}),
}


@pytest.mark.parametrize("name", SWAPPED)
def test_no_message_has_the_entries_of_tensors(name):
    parameters = [torch.nn.Parameter(torch.full((40, 30), 0.625)) for _ in range(9)]
    with pytest.raises(fo.errors.FuncoptError) as caught:
        SWAPPED[name](parameters)
    assert "0.625" not in str(caught.value)
    assert len(str(caught.value)) < 500


STATES = {
    "fewer stages": (fo.adam(), fo.chain(fo.clip(1.0), fo.adam(), fo.scale(2.0))),
    "same slots": (
        fo.chain(fo.clip(1.0), fo.scale_by_adam(), fo.scale(0.5), fo.scale(-0.1)),
        fo.chain(fo.clip(1.0), fo.scale_by_adam(), fo.scale(-0.1)),
    ),
    "a mask": (
        fo.chain(fo.masked(fo.adam(), True), fo.scale(1.0)),
        fo.chain(fo.adam(), fo.scale(1.0)),
    ),
    "labels": tuple(
        fo.partition(dict.fromkeys(labels, fo.adam()), lambda name, p: "a")
        for labels in ("ab", "abc")
    ),
    "accumulate": (fo.accumulate(fo.adam(), 2), fo.adam()),
    "skip_if": (fo.adam(), fo.skip_if(fo.adam())),
}


@pytest.mark.parametrize("engine", ["auto", "eager"])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("name", STATES)
def test_the_state_of_another_transformation_is_refused(name, turned, engine):
    tx, other = STATES[name][::-1] if turned else STATES[name]
    params = {"a": torch.ones(3), "w": torch.ones(2, 2)}
    state = other.init(params)
    with fo.pure_engine(engine), pytest.raises(fo.errors.StructureError, match="made by another"):
        tx.update(params, state, params)
