"""VPRTempo: places from amplitude-coded spikes, in modules that learn on their own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from neurons.errors import OptionError, ShapeError
from step.learners.base import learners
from step.learners.places.base import Calibration, PlaceConfig, PlaceLearner
from step.learners.places.inputs import need_map, rows_of_queries, rows_of_references, unit
from step.learners.places.layers import Amplitudes, Read
from step.learners.places.tempo import BLOCK, Layer, Rule, amplitudes, drawn, merged, stacked, train

if TYPE_CHECKING:
    import pandas as pd

    import energy

Range = tuple[float, float]


class VPRTempoConfig(PlaceConfig):
    """Settings of VPRTempo; the defaults are those of its paper and its package (Hines et al., ICRA 2024)."""

    read: Read = "clamped"
    """How places are read: the amplitudes of the output layer; both layers without thresholds and clamps, which is one
    matrix (what the package does from 1.1.6 on); or the nearest reference by the cosine of feature amplitudes."""
    places_per_module: int = Field(1100, ge=1)
    """Places of a module; 1,100 for Nordland."""
    features: int | None = Field(None, ge=1)
    """Feature neurons of a module; twice the inputs when left out."""
    epochs: int = Field(4, ge=1)
    """Times that each layer sees all references."""
    rate: float = Field(0.005, gt=0)
    """Learning rate of weights."""
    threshold_rate: float = Field(0.15, ge=0)
    """Learning rate of thresholds."""
    connections: Range = (0.1, 0.5)
    """Probabilities of an excitatory and of an inhibitory connection from an input to a feature."""
    output_connections: Range = (1.0, 1.0)
    """The same from a feature to an output."""
    thresholds: Range = (0.0, 0.5)
    """Range of the thresholds of features at the start."""
    lowest_threshold: float = 0.0
    """Bound of thresholds from below."""
    targets: Range = (0.2, 0.9)
    """Range of the target firing of features."""
    ceiling: float = Field(0.9, gt=0)
    """Largest amplitude."""
    constant: float = Field(0.0, ge=0)
    """Constant input C: 0.1 in the paper, none in the package from 1.1.0 on."""
    over_target: Literal["none", "feature", "output", "both"] = "none"
    """In which layer the learning rate is divided by the target firing of the feature. The paper has it in the rule of
    features; the package leaves it out there, and in later versions has it in the output layer."""
    clipped_error: bool = False
    """Whether the error of an output is clipped to [0, 1]; the package computes that and drops it, LENS keeps it."""
    separate: bool = True
    """Whether an excitatory and an inhibitory synapse between the same two neurons learn as two, as in the paper and
    the package 1.0.0, or as one with the sum of both, as from 1.1.0 on."""
    refresh: int = Field(100, ge=1)
    """Images after which the learning rate is annealed again: 10 in the package 1.0.0, then 100."""
    published_defect: bool = False
    """Whether thresholds learn from an activity of 0, as in the package from 1.1.0 on and in LENS: all go to 0."""
    weight_bits: int | None = Field(None, ge=2, le=16)
    """Bits to which weights are rounded after learning, one scale for each layer of a module. (The paper trains with
    such rounding.)"""

    @model_validator(mode="after")
    def _ranges(self) -> Self:
        for name in ("connections", "output_connections"):
            if not all(0 <= share <= 1 for share in getattr(self, name)):
                raise ValueError(f"{name} are two probabilities, not {getattr(self, name)}")
        for name in ("thresholds", "targets"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} go from a lower to a higher number, not from {low} to {high}")
        if self.targets[0] < 0 or self.targets[1] <= 0:
            raise ValueError(f"targets must be positive, not {self.targets}")
        return self

    def rules(self) -> tuple[Rule, Rule]:
        """Return the rules of the feature and of the output layer."""
        feature = Rule(
            *self.connections, rate=self.rate, threshold_rate=self.threshold_rate, thresholds=self.thresholds,
            targets=self.targets, ceiling=self.ceiling, constant=self.constant,
            over_target=self.over_target in ("feature", "both"), lowest=self.lowest_threshold,
            defect=self.published_defect, separate=self.separate, refresh=self.refresh,
        )  # fmt: skip
        output = Rule(
            *self.output_connections, rate=self.rate, ceiling=self.ceiling, constant=self.constant,
            clipped_error=self.clipped_error, over_target=self.over_target in ("output", "both"),
            separate=self.separate, refresh=self.refresh,
        )  # fmt: skip
        return feature, output


@learners.register("vprtempo")
class VPRTempo(PlaceLearner):
    """VPRTempo (Hines et al., ICRA 2024): input, features by STDP, one output neuron for each place.

    x_j = clip(sum_i w_ij x_i + C - theta_j, 0, 0.9), one update for each image. Places are cut into blocks; each is a
    module with features and outputs of its own, which learns without the others, and the amplitudes of all outputs
    are compared as they are. Further places become further modules, and answers for the ones before stay as they were.
    The rule is online, see :mod:`step.learners.places.tempo`; features learn first, then outputs.

    Thresholds are bounded by 0, so that intrinsic plasticity can calm a feature but not wake it: where features fire
    below their targets, which they do with the published constants, thresholds fall to 0 with and without the defect
    (``published_defect``) that makes them fall whatever fires.

    Parameters
    ----------
    network, config, seed, checkpoint_file, progress
        See :class:`~step.learners.places.base.PlaceLearner`. What is drawn for a module depends on the seed and its
        number.
    """

    Config: ClassVar[type[PlaceConfig]] = VPRTempoConfig
    config: VPRTempoConfig
    _sizes: tuple[int, ...] = ()
    """Places of each module."""
    _feature: Layer
    """Weights [modules, features, inputs], thresholds [modules, features]."""
    _output: Layer
    """Weights [modules, places, features] and thresholds, filled with zeros where a module has fewer places."""
    _known: Tensor
    """Feature amplitudes of references [modules, traverses, places, features], of length 1; kept for ``read:
    features`` only, otherwise of no features."""
    _activity: Tensor
    """Mean feature amplitudes over the references of a module, [modules, features]."""

    def map_places(self, references: Tensor, calibration: Calibration | None = None) -> None:
        started = time.perf_counter()
        self._sizes = ()
        self._learn(rows_of_references(references))
        self.history.append({"seconds": time.perf_counter() - started})

    def add_places(self, references: Tensor) -> None:
        need_map(bool(self._sizes), self._name)
        rows = rows_of_references(references)
        rows_of_queries(references[0], self._feature.weight.shape[2])
        self._learn(rows)

    def similarity(self, queries: Tensor, first: int = 0) -> Tensor:
        need_map(bool(self._sizes), self._name)
        rows = rows_of_queries(queries, self._feature.weight.shape[2])
        return self._joined(self._answers(rows))

    def measure(self, queries: Tensor) -> energy.Record:
        need_map(bool(self._sizes), self._name)
        import energy

        rows = rows_of_queries(queries, self._feature.weight.shape[2])
        return energy.measure(self._network(), rows.unsqueeze(0), data="queries", input_operand="real")

    @property
    def parameter_count(self) -> int:
        """Weights and thresholds that the read-out uses."""
        if not self._sizes:
            return 0
        inputs, places = self._feature.weight.shape[2], sum(self._sizes)
        if self.config.read == "linear":
            return inputs * places
        features = self._feature.weight.shape[1]
        kept = places * features * (self._known.shape[1] if self.config.read == "features" else 1)
        return int(self._feature.weight.numel() + self._feature.threshold.numel() + kept)

    @property
    def memory(self) -> int:
        bits = self.config.weight_bits or 32
        thresholds = 0 if not self._sizes or self.config.read == "linear" else self._feature.threshold.numel()
        return (bits * (self.parameter_count - thresholds) + 7) // 8 + 4 * thresholds

    def details(self) -> dict[str, pd.DataFrame]:
        """Return ``features``: of each, its module, target firing, threshold, and mean amplitude over references."""
        import numpy as np
        import pandas as pd

        if not self._sizes:
            return {}
        modules, features = self._activity.shape
        target = self.config.rules()[0].firing(features)
        assert target is not None
        table = {
            "module": np.repeat(np.arange(modules), features),
            "feature": np.tile(np.arange(features), modules),
            "target": np.tile(target.numpy(), modules),
            "threshold": self._feature.threshold.flatten().numpy(),
            "activity": self._activity.flatten().numpy(),
        }
        return {"features": pd.DataFrame(table)}

    def tensors(self) -> dict[str, Tensor]:
        need_map(bool(self._sizes), self._name)
        return {
            "sizes": torch.tensor(self._sizes), "feature.weight": self._feature.weight,
            "feature.threshold": self._feature.threshold, "output.weight": self._output.weight,
            "output.threshold": self._output.threshold, "known": self._known, "activity": self._activity,
        }  # fmt: skip

    def restore(self, tensors: dict[str, Tensor]) -> None:
        self._sizes = tuple(tensors["sizes"].tolist())
        self._feature = Layer(tensors["feature.weight"], tensors["feature.threshold"])
        self._output = Layer(tensors["output.weight"], tensors["output.threshold"])
        self._known, self._activity = tensors["known"], tensors["activity"]
        if self.config.read == "features" and not self._known.numel():
            raise OptionError("read: 'features' compares with references, which this map was made without")
        self._settled()

    @classmethod
    def from_weights(
        cls,
        feature: Any,
        output: Any,
        *,
        thresholds: Any = None,
        config: VPRTempoConfig | None = None,
        seed: int = 0,
    ) -> Self:
        """Return a map with given weights, for example those that the authors of LENS published.

        Parameters
        ----------
        feature : array or Tensor, shape [features, inputs]
        output : array or Tensor, shape [places, features]
        thresholds : array or Tensor, shape [features], optional
            0 when left out.
        config : VPRTempoConfig, optional
        seed : int

        Raises
        ------
        ShapeError
            When the sizes do not fit each other.
        OptionError
            For ``read="features"``: references are not known.
        """
        chosen = cls.Config.model_validate({}) if config is None else config
        learner = cls(None, chosen, seed=seed)
        below, above = (torch.as_tensor(w, dtype=torch.float32) for w in (feature, output))
        if below.dim() != 2 or above.dim() != 2 or above.shape[1] != len(below):
            raise ShapeError(
                "weights are [features, inputs] and [places, features] with the same features, not "
                f"{list(below.shape)} and {list(above.shape)}"
            )
        theta = torch.zeros(len(below)) if thresholds is None else torch.as_tensor(thresholds, dtype=torch.float32)
        if theta.shape != (len(below),):
            raise ShapeError(f"thresholds are one for each of {len(below)} features, not {list(theta.shape)}")
        features, places = len(below), len(above)
        learner.restore({
            "sizes": torch.tensor([places]), "feature.weight": below[None], "feature.threshold": theta[None],
            "output.weight": above[None], "output.threshold": torch.zeros(1, places),
            "known": torch.zeros(1, 1, places, 0), "activity": torch.full((1, features), torch.nan),
        })  # fmt: skip
        return learner

    # Answers ------------------------------------------------------------------------------------------------------

    def _answers(self, rows: Tensor) -> Tensor:
        """Return amplitudes [B, modules, places] for rows [B, inputs]."""
        feature, output = self.config.rules()
        if self.config.read == "linear":
            return (rows @ self._collapsed.flatten(0, 1).T).unflatten(1, self._collapsed.shape[:2])
        active = self._active(rows, feature)
        if self.config.read == "clamped":
            return amplitudes(self._output, output, active).transpose(0, 1)
        alike = torch.bmm(unit(active), self._known.flatten(1, 2).mT)
        return alike.unflatten(2, self._known.shape[1:3]).amax(2).transpose(0, 1)

    def _active(self, rows: Tensor, rule: Rule) -> Tensor:
        """Return feature amplitudes [modules, B, features], all modules in one product."""
        weight = self._feature.weight
        net = (rows @ weight.flatten(0, 1).T).unflatten(1, weight.shape[:2]).transpose(0, 1)
        return (net + (rule.constant - self._feature.threshold).unsqueeze(1)).clamp(0.0, rule.ceiling)

    def _joined(self, answers: Tensor) -> Tensor:
        """Return answers [B, modules, places] as [P, B], without the places that fill up smaller modules."""
        if len(set(self._sizes)) == 1:
            return answers.flatten(1).T.contiguous()
        return torch.cat([answers[:, module, :size] for module, size in enumerate(self._sizes)], dim=1).T.contiguous()

    def _settled(self) -> None:
        """Compute what answers need and the map does not hold."""
        self._collapsed = torch.bmm(self._output.weight, self._feature.weight)

    def _network(self) -> nn.Module:
        """Return the map as a network of linear layers, module by module, as its operations are counted."""
        feature, output = self.config.rules()
        network = Amplitudes(self.config.read, feature.ceiling)
        for module, size in enumerate(self._sizes):
            if self.config.read == "linear":
                network.add(self._collapsed[module, :size])
                continue
            known = self._known[module, :, :size].flatten(0, 1)
            network.add(
                self._output.weight[module, :size] if self.config.read == "clamped" else known,
                Layer(self._feature.weight[module], self._feature.threshold[module] - feature.constant),
                output.constant if self.config.read == "clamped" else 0.0,
            )
        network.traverses = self._known.shape[1]
        return network

    # Learning -----------------------------------------------------------------------------------------------------

    @property
    def _name(self) -> str:
        return str(getattr(type(self), "registered_name", type(self).__name__.lower()))

    def _learn(self, rows: Tensor) -> None:
        """Learn places [R, P, inputs] as further modules."""
        inputs = rows.shape[2]
        features = self.config.features or 2 * inputs
        blocks = list(rows.split(self.config.places_per_module, dim=1))
        number, together = len(self._sizes), max(1, BLOCK // (features * inputs))
        self._images, self._of = 0.0, 2 * self.config.epochs * rows.shape[0] * rows.shape[1]
        groups: list[tuple[Layer, Layer, Tensor, Tensor]] = []
        while blocks:
            like = [block for block in blocks[:together] if block.shape == blocks[0].shape]
            groups.append(self._group(torch.stack(like), number, features))
            blocks, number = blocks[len(like) :], number + len(like)
            self._sizes += (like[0].shape[1],) * len(like)
        if number > sum(len(group[0].weight) for group in groups):
            groups.insert(0, (self._feature, self._output, self._known, self._activity))
        most = max(self._sizes)
        self._feature = _together([group[0] for group in groups])
        self._output = _together([_filled(group[1], most) for group in groups])
        known = [nn.functional.pad(group[2], (0, 0, 0, most - group[2].shape[2])) for group in groups]
        self._known, self._activity = torch.cat(known), torch.cat([group[3] for group in groups])
        self._settled()

    def _group(self, blocks: Tensor, first: int, features: int) -> tuple[Layer, Layer, Tensor, Tensor]:
        """Learn modules of equal size, [modules, R, P, inputs]; return layers, known features, mean amplitudes."""
        feature, output = self.config.rules()
        modules, traverses, places, inputs = blocks.shape

        def seen(count: float) -> None:
            self._seen(count * modules)

        images = blocks.flatten(1, 2)
        generators = [self._generator(first + module) for module in range(modules)]
        below = stacked([drawn(feature, inputs, features, generator) for generator in generators])
        above = stacked([drawn(output, features, places, generator) for generator in generators])
        labels = torch.arange(places).repeat(traverses)
        order = self._order(generators, images)
        below = self._rounded(merged(train(below, feature, images, order, labels, None, seen), feature))
        active = amplitudes(below, feature, images)
        before = feature.firing(features) if output.over_target else None
        order = self._order(generators, images)
        above = self._rounded(merged(train(above, output, active, order, labels, before, seen), output))
        known = unit(active) if self.config.read == "features" else active[..., :0]
        return below, above, known.unflatten(1, (traverses, places)), active.mean(1)

    def _generator(self, module: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.seed << 20) + module)

    def _order(self, generators: list[torch.Generator], images: Tensor) -> Tensor:
        """Return for each module all of its images, shuffled, once for each epoch: [modules, steps]."""
        count, epochs = images.shape[1], range(self.config.epochs)
        shuffled = [torch.cat([torch.randperm(count, generator=own) for _ in epochs]) for own in generators]
        return torch.stack(shuffled)

    def _rounded(self, layer: Layer) -> Layer:
        """Return a layer with its weights rounded to so many bits."""
        if self.config.weight_bits is None:
            return layer
        levels = 2 ** (self.config.weight_bits - 1) - 1
        scale = layer.weight.abs().amax((1, 2), keepdim=True) / levels
        return Layer((layer.weight / scale).round() * scale, layer.threshold)

    def _seen(self, images: float) -> None:
        self._images += images
        share = min(1.0, self._images / self._of)
        self.progress({"epoch": int(share * self.config.epochs), "epochs": self.config.epochs, "share": share})


def _together(layers: list[Layer]) -> Layer:
    return Layer(torch.cat([layer.weight for layer in layers]), torch.cat([layer.threshold for layer in layers]))


def _filled(layer: Layer, places: int) -> Layer:
    """Return output layers with zeros for the places that they do not have."""
    more = places - layer.threshold.shape[1]
    return Layer(nn.functional.pad(layer.weight, (0, 0, 0, more)), nn.functional.pad(layer.threshold, (0, more)))
