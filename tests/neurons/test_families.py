"""The neurons of the literature against their equations in plain floats, and their kernels."""

import math

import pytest
import torch

import neurons
from neurons import compiler
from neurons.errors import OptionError

RESETS = ["hard", "soft", "none"]


def current(T=50, B=1, N=4, seed=0, mean=0.5, scale=1.5, dtype=torch.float64):
    return mean + scale * torch.randn(T, B, N, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def back(v, s, threshold, reset):
    return {"hard": 0.0 if s else v, "soft": v - s * threshold, "none": v}[reset]


def klif(xs, reset, tau=2.5, k=1.3, threshold=0.8):
    v, out = 0.0, []
    for x in xs:
        h = max(0.0, k * (v + (x - v) / tau))
        s = float(h >= threshold)
        v = back(h, s, threshold, reset)
        out.append(s)
    return out, {"v": v}


def eif(xs, reset, tau=2.5, delta_t=0.7, theta_rh=0.6, v_reset=-0.2, threshold=0.9):
    v, out = 0.0, []
    for x in xs:
        h = v + (x - v + delta_t * math.exp((v - theta_rh) / delta_t)) / tau
        out.append(float(h >= threshold))
        v = v_reset if out[-1] else h
    return out, {"v": v}


def qif(xs, reset, tau=2.5, a0=0.7, v_c=0.6, v_reset=-0.2, threshold=0.9):
    v, out = 0.0, []
    for x in xs:
        h = v + (x + a0 * (v - 0.0) * (v - v_c)) / tau
        out.append(float(h >= threshold))
        v = v_reset if out[-1] else h
    return out, {"v": v}


def cuba(xs, reset, alpha=0.6, beta=0.7, threshold=1.2, reset_delay=False):
    i = v = 0.0
    out = []
    for x in xs:
        i = alpha * i + x
        h = beta * v + i
        if reset_delay:
            v = back(h, float(v >= threshold), threshold, reset)
            s = float(v >= threshold)
        else:
            s = float(h >= threshold)
            v = back(h, s, threshold, reset)
        out.append(s)
    return out, {"i": i, "v": v}


def alpha_neuron(xs, reset, alpha=0.85, beta=0.7, threshold=0.9):
    e = i = v = 0.0
    factor = math.log(alpha) / (math.log(beta) - math.log(alpha)) + 1
    out = []
    for x in xs:
        fired, i_before = v >= threshold, i
        e, i = alpha * e + x, beta * i - x
        v = factor * (e + i)
        if fired and reset == "hard":
            e = i = v = 0.0
        elif fired and reset == "soft":
            e, i, v = e - threshold, 0.0, v + i_before
        out.append(float(v >= threshold))
    return out, {"e": e, "i": i, "v": v}


def lapicque(xs, reset, r=4.0, c=1.5, dt=0.8, threshold=0.7, reset_delay=False):
    v, out = 0.0, []
    for x in xs:
        h = v + dt * (x - v / r) / c  # C dv/dt = I - v / R
        if reset_delay:
            v = back(h, float(v >= threshold), threshold, reset)
            out.append(float(v >= threshold))
        else:
            out.append(float(h >= threshold))
            v = back(h, out[-1], threshold, reset)
    return out, {"v": v}


def leaky_integrator(xs, reset, tau=3.0):
    v, out = 0.0, []
    for x in xs:
        v = (1 - 1 / tau) * v + x / tau
        out.append(v)
    return out, {"v": v}


def alif(xs, reset, tau=5.0, tau_adaptation=20.0, beta=1.5, threshold=0.1):
    v = b = 0.0
    out = []
    for x in xs:
        level = threshold + beta * b
        h = math.exp(-1 / tau) * v + (1 - math.exp(-1 / tau)) * x
        s = float(h >= level)
        v = back(h, s, level, reset)
        b = math.exp(-1 / tau_adaptation) * b + (1 - math.exp(-1 / tau_adaptation)) * s
        out.append(s)
    return out, {"v": v, "b": b}


def tc_lif(xs, reset, to_dendrite=0.4, to_soma=0.7, gamma=0.3, threshold=0.8):
    d = v = 0.0
    out = []
    for x in xs:
        d = d - to_dendrite * v + x
        v = v + to_soma * d
        s = float(v >= threshold)
        d = d - gamma * s if reset == "soft" else d
        v = back(v, s, threshold, reset)
        out.append(s)
    return out, {"d": d, "v": v}


def resonate_and_fire(xs, reset, omega=20.0, damping=2.0, dt=0.005, gain=150.0, threshold=0.8):
    z, q, out = 0j, 0.0, []
    boundary = (-1 + math.sqrt(1 - (dt * omega) ** 2)) / dt
    for x in xs:
        z = z + dt * (complex(boundary - damping - q, omega) * z + gain * x)
        s = float(z.real >= threshold + q)
        q = 0.9 * q + s
        out.append(s)
    return out, {"u": z.real, "v": z.imag, "q": q}


def harmonic_resonate_and_fire(xs, reset, omega=20.0, damping=2.0, dt=0.005, gain=150.0, threshold=0.8):
    u = v = q = 0.0
    out = []
    for x in xs:
        b = dt * omega**2 / 2 + damping + q
        v = v + dt * u
        u = u + dt * (gain * x - 2 * b * u - omega**2 * v)
        s = float(u >= threshold + q)
        q = 0.9 * q + s
        out.append(s)
    return out, {"u": u, "v": v, "q": q}


def izhikevich(xs, reset, a=0.03, b=0.22, c=-60.0, d=6.0, dt=0.8, steps=3, gain=15.0, v_floor=-80.0):
    v, u, out = -65.0, b * -65.0, []
    for x in xs:
        for _ in range(steps):
            if v < 30:
                v = max(v_floor, v + dt / steps * (0.04 * v * v + 5 * v + 140 - u + gain * x))
        u += dt * a * (b * v - u)
        s = float(v >= 30)
        if s:
            v, u = c, u + d
        out.append(s)
    return out, {"v": v, "u": u}


def hodgkin_huxley(xs, reset, dt=0.4, steps=8, gain=12.0):
    v, m, h, n = -65.0, 0.052932, 0.596121, 0.317677
    out = []
    for x in xs:
        start, k = v, dt / steps
        for _ in range(steps):
            am, bm = 0.1 * (v + 40) / (1 - math.exp(-(v + 40) / 10)), 4 * math.exp(-(v + 65) / 18)
            ah, bh = 0.07 * math.exp(-(v + 65) / 20), 1 / (1 + math.exp(-(v + 35) / 10))
            an, bn = 0.01 * (v + 55) / (1 - math.exp(-(v + 55) / 10)), 0.125 * math.exp(-(v + 65) / 80)
            m = (m + k * am) / (1 + k * am + k * bm)
            h = (h + k * ah) / (1 + k * ah + k * bh)
            n = (n + k * an) / (1 + k * an + k * bn)
            g_na, g_k, g_l = 120 * m**3 * h, 36 * n**4, 0.3
            v = (v + k * (gain * x + g_na * 50 - g_k * 77 - g_l * 54.387)) / (1 + k * (g_na + g_k + g_l))
        out.append(float(v >= 0 > start))
    return out, {"v": v, "m": m, "h": h, "n": n}


def conductance_lif(xs, reset, tau=40.0, tau_i=1.5, v_reset=-66.0, theta_plus=0.4, refractory=2.0, dt=0.5, gain=6.0):
    v, g_e, g_i, theta, last = -65.0, 0.0, 0.0, 20.0, -math.inf
    out = []
    for t, x in enumerate(xs):
        g_e, g_i = g_e + gain * max(x, 0), g_i + gain * max(-x, 0)
        v += dt / tau * ((-65 - v) + g_e * (0 - v) + g_i * (-100 - v))
        g_e, g_i = g_e - dt * g_e / 1.0, g_i - dt * g_i / tau_i
        theta -= dt * theta / 1e7
        s = float(v >= -52 + (theta - 20) and (t - last) * dt >= refractory)
        if s:
            v, theta, last = v_reset, theta + theta_plus, t
        out.append(s)
    return out, {"v": v, "g_e": g_e, "g_i": g_i, "theta": theta}


RESETTABLE = {
    "klif": (klif, {"tau": 2.5, "k": 1.3, "threshold": 0.8}),
    "cuba": (cuba, {"alpha": 0.6, "beta": 0.7, "threshold": 1.2}),
    "alpha": (alpha_neuron, {"alpha": 0.85, "beta": 0.7, "threshold": 0.9}),
    "lapicque": (lapicque, {"r": 4.0, "c": 1.5, "dt": 0.8, "threshold": 0.7}),
    "alif": (alif, {"tau": 5.0, "tau_adaptation": 20.0, "beta": 1.5, "threshold": 0.1}),
    "tc-lif": (tc_lif, {"to_dendrite": 0.4, "to_soma": 0.7, "gamma": 0.3, "threshold": 0.8}),
}
RESONATOR = {"omega": 20.0, "damping": 2.0, "dt": 0.005, "gain": 150.0, "threshold": 0.8}
OTHERS = {
    "eif": (eif, {"tau": 2.5, "delta_t": 0.7, "theta_rh": 0.6, "v_reset": -0.2, "threshold": 0.9}),
    "qif": (qif, {"tau": 2.5, "a0": 0.7, "v_c": 0.6, "v_reset": -0.2, "threshold": 0.9}),
    "leaky-integrator": (leaky_integrator, {"tau": 3.0}),
    "resonate-and-fire": (resonate_and_fire, RESONATOR),
    "harmonic-resonate-and-fire": (harmonic_resonate_and_fire, RESONATOR),
    "izhikevich": (
        izhikevich,
        {"a": 0.03, "b": 0.22, "c": -60.0, "d": 6.0, "dt": 0.8, "steps": 3, "gain": 15.0, "v_floor": -80.0},
    ),
    "hodgkin-huxley": (hodgkin_huxley, {"dt": 0.4, "steps": 8, "gain": 12.0}),
    "conductance-lif": (
        conductance_lif,
        {"tau": 40.0, "tau_i": 1.5, "v_reset": -66.0, "theta_plus": 0.4, "refractory": 2.0, "gain": 6.0},
    ),
}  # fmt: skip
EVERY = [(name, reset) for name in RESETTABLE for reset in RESETS] + [(name, None) for name in OTHERS]


@pytest.mark.parametrize(("name", "reset"), EVERY)
def test_the_step_follows_the_equations(name, reset):
    """Against the same equations in plain Python floats."""
    restated, options = (RESETTABLE | OTHERS)[name]
    neuron = neurons.create(name, **options, **({} if reset is None else {"reset": reset}))
    # parameters are made in float32; the restatement knows their exact values
    neuron.double()
    for parameter, value in {"k": 1.3, "w1": math.log(0.4 / 0.6), "w2": math.log(0.7 / 0.3)}.items():
        if isinstance(getattr(neuron, parameter, None), torch.nn.Parameter):
            torch.nn.init.constant_(getattr(neuron, parameter), value)
    x = current()
    output, state = neuron.run(x)
    spikes = 0.0
    for column in range(x.shape[2]):
        expected, last = restated(x[:, 0, column].tolist(), reset)
        assert output[:, 0, column].tolist() == pytest.approx(expected, rel=1e-9)
        for key, value in last.items():
            assert state[key][0, column].item() == pytest.approx(value, rel=1e-9, abs=1e-9), key
        spikes += sum(expected)
    assert spikes > 0


@pytest.mark.parametrize("name", ["cuba", "lapicque"])
@pytest.mark.parametrize("reset", RESETS)
def test_a_delayed_reset_follows_the_equations(name, reset):
    restated, options = RESETTABLE[name]
    x = current(N=1)
    output, state = neurons.create(name, **options, reset=reset, reset_delay=True).run(x)
    expected, last = restated(x.flatten().tolist(), reset, reset_delay=True)
    assert output.flatten().tolist() == expected
    assert state["v"].item() == pytest.approx(last["v"], rel=1e-9)


@pytest.mark.parametrize("name", [*RESETTABLE, *OTHERS, "gelu"])
def test_the_kernel_equals_the_eager_loop(name, monkeypatch):
    """Outputs, states and gradients, on a small input."""
    neuron = neurons.create(name).double()
    assert compiler.why_not(neuron) is None
    x = current(T=12, B=2, N=5)
    found = []
    for word in ("c", "eager"):
        monkeypatch.setenv("STEP_KERNELS", word)
        leaf = x.clone().requires_grad_()
        neuron.zero_grad()
        output, state = neuron.run(leaf)
        weight = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output)
        ((output * weight).sum() + sum(value.sum() for value in state.values())).backward()
        found.append([output, *state.values(), leaf.grad, *[p.grad.clone() for p in neuron.parameters()]])
    for kernel, eager in zip(*found, strict=True):
        torch.testing.assert_close(kernel, eager, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", [*RESETTABLE, *OTHERS, "gelu"])
def test_every_operation_of_an_update_has_a_kind(name):
    assert not [kind for kind in neurons.update_cost(neurons.create(name)) if kind.startswith("other")]


@pytest.mark.parametrize("name", [*RESETTABLE, *OTHERS])
def test_large_currents_leave_everything_finite(name):
    neuron = neurons.create(name)
    x = (100 * current(T=100, N=10, dtype=torch.float32)).requires_grad_()
    output, state = neuron.run(x)
    output.sum().backward()
    for value in (output, *state.values(), x.grad, *[p.grad for p in neuron.parameters()]):
        assert torch.isfinite(value).all()


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("klif", {"tau": 1.0}, "tau of klif"),
        ("klif", {"k": 0.0}, "k of klif must be positive"),
        ("eif", {"delta_t": 0.0}, "delta_t of eif"),
        ("eif", {"v_reset": 1.0}, "v_reset of eif must lie below"),
        ("qif", {"a0": -1.0}, "a0 of qif"),
        ("qif", {"reset": "soft"}, "no option 'reset'"),
        ("cuba", {"alpha": 1.0}, "alpha of cuba must lie between 0 and 1"),
        ("alpha", {"alpha": 0.5, "beta": 0.8}, "greater than its beta"),
        ("lapicque", {"dt": 6.0}, "dt of lapicque"),
        ("lapicque", {"c": 0.0}, "c of lapicque"),
        ("leaky-integrator", {"tau": 1.0}, "tau of leaky-integrator"),
        ("alif", {"beta": -1.0}, "beta of alif"),
        ("alif", {"reset": "weak"}, "'hard', 'soft' or 'none'"),
        ("tc-lif", {"gamma": -1.0}, "gamma of tc-lif"),
        ("tc-lif", {"to_soma": 1.0}, "to_soma of tc-lif"),
        ("resonate-and-fire", {"omega": 200.0}, "less than 1 / dt = 100"),
        ("resonate-and-fire", {"omega": [5.0, -1.0]}, "omega of resonate-and-fire"),
        ("harmonic-resonate-and-fire", {"damping": 0.0}, "damping of harmonic-resonate-and-fire"),
        ("resonate-and-fire", {"refractory_decay": 1.0}, "refractory_decay"),
        ("izhikevich", {"steps": 0}, "steps of izhikevich"),
        ("izhikevich", {"c": 40.0}, "c of izhikevich"),
        ("izhikevich", {"v_floor": -50.0}, "between v_floor -50.0 and v_peak"),
        ("hodgkin-huxley", {"dt": 1.0}, "dt of hodgkin-huxley"),
        ("hodgkin-huxley", {"v_threshold": 50.0}, "v_threshold of hodgkin-huxley"),
        ("conductance-lif", {"tau_e": 0.1}, "tau_e of conductance-lif"),
        ("conductance-lif", {"v_reset": 0.0}, "conductance-lif needs"),
        ("conductance-lif", {"refractory": -1.0}, "must not be negative"),
    ],
)
def test_wrong_options_are_refused_in_one_line(name, options, words):
    with pytest.raises(OptionError, match=words) as caught:
        neurons.create(name, **options)
    assert "\n" not in str(caught.value)
