"""Contract G: what needs no framework; `tests/frameworks` goes on with real ones."""

import torch
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn, update_bn

from .common import every_kind, gap, loss_of, model, train


@every_kind
def test_averaged_models_and_swalr_do_what_they_do_with_torchs(kind):
    """Contract 55."""
    nets, averages = (model(), model()), []
    for net, make, clips in zip(nets, (kind.make, kind.theirs), (False, kind.clips), strict=True):
        opt = make(net.parameters())
        cosine = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 10)
        flat = SWALR(opt, swa_lr=0.005, anneal_epochs=3)
        average = AveragedModel(net)
        ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))
        for t in range(12):
            train(net, opt, 1, clips)
            ema.update_parameters(net)
            if t < 6:
                cosine.step()
            else:
                average.update_parameters(net)
                flat.step()
        update_bn([torch.ones(2, 3, dtype=torch.float64)], average)
        averages.append((average, ema))
        assert opt.param_groups[0]["swa_lr"] == 0.005
    assert gap(*nets) <= 1e-12
    for mine, theirs in zip(*averages, strict=True):
        assert gap(mine, theirs) <= 1e-12


@every_kind
def test_a_lookahead_around_it_keeps_its_slow_weights_in_the_state(kind):
    """Contract 5, 20, 28: as timm's, which shares groups and state with what it wraps."""

    class Lookahead(torch.optim.Optimizer):
        def __init__(self, base):
            self._optimizer_step_pre_hooks, self._optimizer_step_post_hooks = {}, {}
            self.base, self.defaults, self.state = base, base.defaults, base.state
            self.param_groups = base.param_groups
            for group in self.param_groups:
                group["lookahead_step"] = 0

        def step(self, closure=None):
            loss = self.base.step(closure)
            for group in self.param_groups:
                group["lookahead_step"] += 1
                if group["lookahead_step"] % 2 == 0:
                    for p in group["params"]:
                        stored = self.base.state[p]
                        slow = stored.setdefault("lookahead_slow_buff", p.detach().clone())
                        slow.lerp_(p.detach(), 0.5)
                        p.data.copy_(slow)
            return loss

    nets = model(), model()
    for net, make, clips in zip(nets, (kind.make, kind.theirs), (False, kind.clips), strict=True):
        train(net, Lookahead(make(net.parameters())), 7, clips)
    assert gap(*nets) <= 1e-12
    assert loss_of(nets[0]) < loss_of(model())
