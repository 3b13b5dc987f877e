"""Subspaces of past activity: that every learner finds them, that fast forms equal the plain rule, and their limits."""

import pytest
import torch
from safetensors.torch import load, save

from neurons.errors import OptionError, ShapeError
from step.learners.continual import subspaces
from step.learners.continual.rules.activity import Rows
from step.learners.continual.subspaces.projection import Projection, orthonormalised, random_rows

LEARNERS = subspaces.names()
OPTIONS = {"hebbian": {"rate": 0.5}, "sanger": {"rate": 0.2}}  # less noise than the default, and time enough
N, RANK = 20, 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def make(name, n=N, **options):
    return subspaces.create(name, n, generator=generator(1), **{**OPTIONS.get(name, {}), **options})


class Source:
    """Gaussian activity around a mean; its second moment has known leading axes, the first of which is the mean's."""

    def __init__(self, first=0, rank=RANK, n=N, tail=0.02):
        self.draws = generator(first + 7)
        self.axes = random_rows(n, n, generator(5))[first : first + rank]
        self.mean, self.tail = 3.0, tail

    def batch(self, rows=64):
        sizes = torch.linspace(2.5, 2, len(self.axes))
        along = torch.randn(rows, len(self.axes), generator=self.draws) * sizes
        along[:, 0] = self.mean  # no variance along it: what centres its data would miss it
        noise = torch.randn(rows, self.axes.shape[1], generator=self.draws) * self.tail
        return along @ self.axes + noise

    @property
    def projector(self):
        return self.axes.T @ self.axes


def learn(subspace, source, rows=RANK, updates=200):
    subspace.grow(rows)
    for _ in range(updates):
        subspace.update(source.batch())
    subspace.merge()
    return subspace


def projector(subspace):
    return torch.eye(subspace.n) - subspace.project(torch.eye(subspace.n))


@pytest.mark.parametrize("name", LEARNERS)
def test_every_learner_finds_the_leading_subspace_of_two_tasks(name):
    subspace = make(name, orthonormal=False)
    first, second = Source(), Source(first=RANK)
    assert torch.equal(subspace.project(first.axes), first.axes)  # nothing is frozen yet
    learn(subspace, first)
    assert (projector(subspace) - first.projector).norm() < 0.05
    before = subspace.frozen.clone()
    learn(subspace, second)
    assert torch.equal(subspace.frozen[: len(before)], before)
    assert (subspace.frozen[len(before) :] @ before.T).abs().max() < 1e-2
    assert (projector(subspace) - first.projector - second.projector).norm() < 0.1
    assert subspace.partition == [RANK, RANK]
    assert subspace.report()["rank"] == 2 * RANK


@pytest.mark.parametrize("name", LEARNERS)
def test_weights_changed_by_projected_gradients_answer_old_activity_as_before(name):
    subspace = learn(make(name), Source(), updates=40)
    old = torch.randn(10, RANK, generator=generator()) @ subspace.frozen
    change = subspace.project(torch.randn(4, 6, N, generator=generator()))
    assert (change @ old.T).abs().max() < 1e-5 * change.norm() * old.norm()
    new = torch.randn(10, N, generator=generator())
    assert torch.allclose(subspace.project(new).square().sum(), (subspace.project(new) * new).sum(), rtol=1e-4)


def plain(rows, velocity, frozen, x, eta, momentum, sanger=False, answer=lambda y: y):
    """The rule as it is written, with all rows: one pass over a batch."""
    y = answer(x @ rows.T)
    if sanger:
        g = torch.stack([y[:, k] @ (x - y[:, : k + 1] @ rows[: k + 1]) for k in range(len(rows))]) / len(x)
    else:
        g = y.T @ (x - y @ rows) / len(x)
    g = g.clamp(-10, 10)
    g[:frozen] = 0
    moved = momentum * velocity + (1 - momentum) * g
    moved[:frozen] = velocity[:frozen]
    step = eta * moved
    step[:frozen] = 0
    return rows + step, moved


@pytest.mark.parametrize("orthonormal", [True, False])
@pytest.mark.parametrize(("rows", "old", "new"), [(7, 0, 6), (7, 5, 15), (50, 14, 4), (50, 4, 15)])
@pytest.mark.parametrize("form", [None, "residual", "rows", "moment"])
@pytest.mark.parametrize("name", ["hebbian", "sanger"])
def test_every_form_equals_the_rule_with_all_rows(name, form, rows, old, new, orthonormal):
    subspace = make(name, eta=0.02, momentum=0.8, iterations=3, form=form, orthonormal=orthonormal)
    learn(subspace, Source(rank=N, tail=0.5), old, updates=3)
    subspace.grow(new)
    draws = generator(3)
    h = torch.cat([subspace.frozen, subspace.fresh]).double()
    v = torch.zeros_like(h)
    for _ in range(4):
        x = 3 * torch.randn(rows, N, generator=draws)
        subspace.update(x)
        for _ in range(3):
            h, v = plain(h, v, old, x.double(), 0.02, 0.8, sanger=name == "sanger")
    assert (h[old:] - subspace.fresh).abs().max() < 1e-5
    assert (subspace.fresh - subspace.fresh.mean()).abs().max() > 0.1


def test_the_cheapest_form_is_taken():
    subspace = make("hebbian", n=64)
    subspace.grow(32)
    assert subspace.cheapest(Rows(torch.ones(4096, 64))) == "moment"
    assert subspace.cheapest(Rows(torch.ones(8, 64))) != "moment"
    learned = learn(make("hebbian", n=64), Source(n=64), 24, updates=1)
    learned.grow(2)
    assert learned.cheapest(Rows(torch.ones(4096, 64))) == "rows"
    learned._extend(30)
    assert learned.cheapest(Rows(torch.ones(4, 64))) == "residual"


def test_the_automatic_rate_does_not_see_the_scale_and_outlives_an_outlier():
    small, large = make("hebbian", rate=2.0), make("hebbian", rate=2.0)
    source = Source()
    for subspace in (small, large):
        subspace.grow(RANK)
    for number in range(30):
        x = source.batch() * (1000 if number == 25 else 1)
        small.update(x)
        large.update(x * 4096)
        small.update(0 * x)
        large.update(0 * x)
    assert torch.allclose(small.fresh, large.fresh, atol=1e-5)
    small.merge()
    assert small.project(source.batch()).norm() < 0.3 * source.batch().norm()


@pytest.mark.parametrize("count", [0, 3, 10, 14, 20])
def test_the_three_forms_of_a_projection_are_one_map(count):
    rows, x = random_rows(count, N, generator()), torch.randn(5, 2, N, generator=generator(2))
    for strength in (1.0, 0.6):
        expected = x.double() - strength * (x.double() @ rows.T.double()) @ rows.double()
        for form in ("rows", "matrix", "complement"):
            found = Projection(rows, strength, orthonormal=True, form=form)(x)
            assert (found - expected).abs().max() < 1e-5
    chosen = Projection(rows, orthonormal=True)
    assert chosen.form == ("complement" if count > N / 2 else "rows")
    assert chosen.cost <= N
    leaning = torch.randn(count, N, generator=generator())
    each = torch.rand(count, generator=generator())
    expected = x - (x @ leaning.T * each) @ leaning
    assert Projection(leaning, each, orthonormal=False).form == ("matrix" if count > N / 2 else "rows")
    for form in ("rows", "matrix"):
        assert torch.allclose(Projection(leaning, each, orthonormal=False, form=form)(x), expected, atol=1e-4)
    assert chosen(x.half()).dtype == torch.float16


def test_orthonormal_rows_at_merge():
    rows = random_rows(8, N, generator())
    same, kept = orthonormalised(rows[3:], rows[:3])
    assert torch.allclose(same.T @ same, rows[3:].T @ rows[3:], atol=1e-6)
    assert kept.tolist() == [0, 1, 2, 3, 4]
    # A row within the span of others, in front of rows that lean on the noise it leaves, goes; the others' span stays.
    frozen, leaning = rows[:2], torch.stack([rows[2], rows[2] + 0.5 * rows[0], rows[3] + rows[2] + rows[1]])
    found, kept = orthonormalised(leaning, frozen)
    assert kept.tolist() == [0, 2]
    assert torch.allclose(found.T @ found, rows[2:4].T @ rows[2:4], atol=1e-5)
    assert len(orthonormalised(torch.randn(30, N, generator=generator()), rows)[0]) == N - 8
    half, whole = (learn(make("hebbian", orthonormal=o), Source(tail=1.0), 8, updates=4) for o in (False, True))
    gap = [(projector(s) @ projector(s) - projector(s)).norm() for s in (half, whole)]
    assert gap[0] > 1e-3
    assert gap[1] < 1e-5


@pytest.mark.parametrize("name", LEARNERS)
def test_automatic_ranks(name):
    subspace = make(name, **({"rate": 2.0} if name in OPTIONS else {}), **({"samples": 128} if name == "svd" else {}))
    wide = Source(rank=6)
    learn(subspace, wide, None, updates=60)
    assert subspace.partition == [6]
    learn(subspace, wide, None, updates=20)
    assert subspace.partition == [6, 0]
    learn(subspace, Source(first=4, rank=6), None, updates=60)
    assert subspace.partition == [6, 0, 4]
    learn(subspace, Source(first=0, rank=N), None, updates=100)  # everything: it must end, within what there is
    assert 0.9 * N <= subspace.rank <= N


def test_frequent_directions_keeps_its_bound():
    source, length = Source(rank=12, tail=0.3, n=40), 16
    subspace = make("frequent-directions", n=40, sketch=length)
    subspace.grow(4)
    seen = []
    for rows in (3, 100, 7, 64, 20, 33):
        seen.append(source.batch(rows))
        subspace.update(seen[-1])
    a, b = torch.cat(seen).double(), subspace._rows.double()
    assert len(b) <= 2 * length
    gap = torch.linalg.eigvalsh(a.T @ a - b.T @ b)
    tails = torch.linalg.svdvals(a).square().flip(0).cumsum(0).flip(0)
    bound = min(float(tails[k]) / (length - k) for k in range(length))
    assert gap.min() > -1e-3
    assert 0 < gap.max() < bound
    # A direction that is weak in every batch and the strongest of all in the end: cutting singular values off loses it.
    slow, axes = make("frequent-directions", sketch=4), torch.eye(N)
    slow.grow(1)
    slow.update(5 * axes[:3])
    for _ in range(40):
        slow.update(axes[3].repeat(5, 1))
    slow.merge()
    assert slow.frozen[0, 3].abs() > 0.99


def test_ccipca_and_frequent_directions_against_the_svd_of_a_decaying_spectrum():
    axes, draws = random_rows(30, 30, generator(5)), generator(6)
    sizes = 0.8 ** torch.arange(30)
    data = (torch.randn(6400, 30, generator=draws) * sizes) @ axes
    exact, right = torch.linalg.svd(data, full_matrices=False)[1:]
    best = exact[:8].square().sum() / exact.square().sum()
    for name in ("ccipca", "frequent-directions", "hebbian", "sanger"):
        subspace = subspaces.create(name, 30, generator=generator(1))
        subspace.grow(8)
        for x in data.split(64):
            subspace.update(x)
        if name == "ccipca":
            assert torch.allclose(subspace._size[:4], exact[:4].square() / len(data), rtol=0.1)
            assert ((subspace.fresh[:3] * right[:3]).sum(1).abs() > 0.98).all()
        subspace.merge()
        held = 1 - subspace.project(data).square().sum() / data.square().sum()
        assert best - 0.02 < held < best + 1e-5


def test_quantised_lateral_neurons_come_to_the_linear_ones():
    linear = learn(make("hebbian", eta=0.02), Source(), updates=20)
    x, gaps = Source().batch(), []
    for steps in (5, 50, 500, 50_000):
        subspace = learn(make("hebbian", eta=0.02, lateral_steps=steps), Source(), updates=20)
        seen = subspace.project_input(x)
        by_hand = x - (torch.round((x @ subspace.frozen.T).clamp(-20, 20) / 20 * steps) / steps * 20) @ subspace.frozen
        assert torch.allclose(seen, by_hand, atol=1e-5)
        gaps.append(float((seen - linear.project_input(x)).norm()))
        assert not subspace.exact
        assert any("linear" in warning for warning in subspace.report()["warnings"])
        # The sum of projected inputs is not the projected sum, so that no summed gradient can stand for them.
        assert steps > 5 or (seen.sum(0) - subspace.project(x.sum(0))).norm() > 1
    assert gaps[0] > 10 * gaps[1] / 2 > 10 * gaps[2] / 4
    assert gaps[-1] < 1e-2
    assert linear.exact
    loud = subspaces.LateralSpikes(steps=10, range=2.0)(torch.tensor([-9.0, -0.29, 0.0, 0.11, 5.0]))
    assert torch.allclose(loud, torch.tensor([-2.0, -0.2, 0.0, 0.2, 2.0]))


def test_spikes_are_learned_from_as_the_rule_says():
    subspace = make("hebbian", eta=0.02, iterations=2, lateral_steps=12, lateral_range=6.0, orthonormal=False)
    learn(subspace, Source(), 4, updates=3)
    subspace.grow(5)
    spikes = subspaces.LateralSpikes(12, 6.0)
    h, x = torch.cat([subspace.frozen, subspace.fresh]), Source(first=2).batch(9)
    v = torch.zeros_like(h)
    subspace.update(x)
    for _ in range(2):
        h, v = plain(h, v, 4, x, 0.02, 0.9, answer=spikes)
    assert (h[4:] - subspace.fresh).abs().max() < 1e-5


def test_warnings_when_dimensions_run_out():
    subspace = learn(make("svd"), Source(rank=N, tail=0.5), 18, updates=2)
    assert subspace.report()["warnings"] == []
    learn(subspace, Source(rank=N, tail=0.5), 1, updates=2)
    assert "19 of 20" in subspace.report()["warnings"][0]
    learn(subspace, Source(rank=N, tail=0.5), 50, updates=2)
    assert subspace.rank == subspace.capacity == N
    assert "nothing" in subspace.report()["warnings"][0]
    assert subspace.project(torch.randn(3, N, generator=generator())).abs().max() < 1e-5
    learn(subspace, Source(), 5, updates=2)
    assert subspace.partition == [18, 1, 1, 0]
    report = subspaces.rank_report({"0": subspace, "1": make("hebbian")})
    assert [(row["layer"], row["rank"], len(row["warnings"])) for row in report] == [("0", N, 1), ("1", 0, 0)]


@pytest.mark.parametrize("rows", [4, None])
@pytest.mark.parametrize("name", LEARNERS)
def test_a_resumed_subspace_goes_on_as_the_first_would_have(name, rows):
    options = {"rows_per_update": 40, "importance": 5.0, "alpha": 0.9}
    first, source = make(name, **options), Source(rank=8, tail=0.3)
    learn(first, source, rows, updates=12)
    first.grow(rows)
    for _ in range(15):
        first.update(source.batch())
    second = subspaces.create(name, N, generator=generator(99), **{**OPTIONS.get(name, {}), **options})
    second.load_state_dict(load(save(first.state_dict())))
    assert second.partition == first.partition
    later = Source(first=3, rank=9, tail=0.3)
    for _ in range(25):
        x = later.batch()
        first.update(x)
        second.update(x)
    for subspace in (first, second):
        subspace.merge()
        learn(subspace, Source(), rows, updates=3)
    states = first.state_dict(), second.state_dict()
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert len(first.partition) == 3


@pytest.mark.parametrize("name", LEARNERS)
def test_soft_and_scaled_projection(name):
    x = torch.randn(50, N, generator=generator())
    hard, soft = (learn(make(name, alpha=a), Source()) for a in (1.0, 0.4))
    assert torch.allclose(x - soft.project(x), 0.4 * (x - hard.project(x)), atol=1e-5)
    uneven = Source(rank=2)
    uneven.mean = 0.5  # beside an axis with 2: shares (c + 1) 0.25 / (0.25 c + 1) and 1
    scaled = learn(make(name, importance=3.0), uneven, 2)
    assert scaled.weights.tolist() == pytest.approx([1, 4 * 0.25 / 1.75], abs=0.05)
    along = torch.stack([uneven.axes[1], uneven.axes[0]])
    assert scaled.project(along).norm(dim=1).tolist() == pytest.approx([0, 1 - 4 * 0.25 / 1.75], abs=0.05)
    learn(scaled, uneven, 0, updates=20)  # counted again, the weak axis counts fully
    assert scaled.weights.tolist() == pytest.approx([1, 1], abs=0.05)


def test_mistakes_are_named():
    subspace = make("hebbian")
    with pytest.raises(OptionError, match="grow"):
        subspace.update(torch.zeros(2, N))
    with pytest.raises(OptionError, match="grow"):
        subspace.merge()
    subspace.grow(2)
    with pytest.raises(OptionError, match="merge"):
        subspace.grow(2)
    with pytest.raises(ShapeError, match="20 inputs"):
        subspace.update(torch.zeros(2, 3, N))
    with pytest.raises(ShapeError, match="20 inputs"):
        subspace.project(torch.zeros(2, N + 1))
    with pytest.raises(ShapeError, match="another learner"):
        subspace.load_state_dict(make("svd").state_dict())
    with pytest.raises(ShapeError, match="20 dimensions"):
        subspace.load_state_dict(make("hebbian", n=5).state_dict())
    for options in ({"alpha": 0}, {"momentum": 1.0}, {"rate": 9.0}, {"eta": -1.0}, {"threshold": 1.0},
                    {"importance": 2.0, "orthonormal": False}, {"lateral_steps": 9, "form": "moment"},
                    {"rows_per_update": 0}, {"every": 0}):  # fmt: skip
        with pytest.raises(OptionError):
            make("hebbian", **options)
    with pytest.raises(OptionError, match="did you mean"):
        make("svd", sample=4)
