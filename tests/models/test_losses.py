"""Losses on embeddings against other implementations and loops; the objective."""

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from facekit import models
from facekit.common.errors import BatchError, FacekitError, RecipeError
from facekit.models import heads, losses
from facekit.models.losses import CenterLoss, ContrastiveLoss, Objective, TripletLoss

SPECS = [
    "center",
    "triplet",
    {"name": "triplet", "mining": "semi_hard"},
    "contrastive",
    {"name": "contrastive", "margin": 2.0},
]
DIM, CLASSES = 5, 4


def name_of(spec) -> str:
    return spec if isinstance(spec, str) else "-".join(map(str, spec.values()))


every_loss = pytest.mark.parametrize("spec", SPECS, ids=name_of)


def batch(size: int = 16, dim: int = DIM, classes: int = CLASSES, seed: int = 0):
    """Embeddings in float64 and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (size,), generator=generator)
    return torch.randn(size, dim, generator=generator).double(), labels


def make(spec) -> nn.Module:
    """A loss in float64; its centres, where it has any, are not 0."""
    loss = losses.build(spec, DIM, CLASSES).double()
    for buffer in loss.buffers():
        buffer.copy_(torch.randn(buffer.shape, generator=torch.Generator().manual_seed(5)))
    return loss


# ------------------------------------------------------------------------------------- oracles


def same_values_and_gradients(mine, theirs, embedding: torch.Tensor) -> None:
    """Of two functions of the embedding, in float32; and both do something."""
    found = []
    for function in (mine, theirs):
        x = embedding.float().requires_grad_()
        value = function(x)
        value.backward()
        found.append((value.detach(), x.grad))
    assert found[1][0] > 0
    assert found[1][1].abs().max() > 1e-4
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-6)
    # The other library takes distances from products, which costs it digits.
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=1e-5)


def lp_distance():
    from pytorch_metric_learning.distances import LpDistance

    return LpDistance(normalize_embeddings=True, p=2, power=1)


def triplet_of_metric_learning(margin: float):
    from pytorch_metric_learning.losses import TripletMarginLoss
    from pytorch_metric_learning.reducers import MeanReducer

    return TripletMarginLoss(margin=margin, reducer=MeanReducer(), distance=lp_distance())


@pytest.mark.parametrize("seed", range(4))
def test_batch_hard_is_that_of_pytorch_metric_learning(seed):
    from pytorch_metric_learning.miners import BatchHardMiner

    embedding, labels = batch(24, seed=seed)
    miner = BatchHardMiner(distance=lp_distance())
    other = triplet_of_metric_learning(0.3)
    same_values_and_gradients(
        lambda x: TripletLoss(0.3)(x, labels),
        lambda x: other(x, labels, miner(x, labels)),
        embedding,
    )


@pytest.mark.parametrize("seed", range(4))
def test_semi_hard_is_that_of_pytorch_metric_learning_with_the_nearest_negatives(seed):
    """Its miner gives every semi-hard triplet; the nearest negative of each pair is kept."""
    from pytorch_metric_learning.miners import TripletMarginMiner

    embedding, labels = batch(24, seed=seed)
    distance = lp_distance()
    miner = TripletMarginMiner(margin=0.3, type_of_triplets="semihard", distance=distance)
    matrix = distance(embedding.float())
    nearest: dict[tuple[int, int], int] = {}
    for anchor, positive, negative in zip(*miner(embedding.float(), labels), strict=True):
        key = anchor.item(), positive.item()
        best = nearest.setdefault(key, negative.item())
        if matrix[anchor, negative] < matrix[anchor, best]:
            nearest[key] = negative.item()
    triplets = torch.tensor([(*pair, negative) for pair, negative in nearest.items()]).unbind(1)
    other = triplet_of_metric_learning(0.3)
    same_values_and_gradients(
        lambda x: TripletLoss(0.3, "semi_hard")(x, labels),
        lambda x: other(x, indices_tuple=triplets),
        embedding,
    )


@pytest.mark.parametrize("seed", range(4))
def test_contrastive_is_that_of_pytorch_metric_learning_squared(seed):
    from pytorch_metric_learning import losses as others

    class Squared(others.ContrastiveLoss):
        def get_per_pair_loss(self, *arguments):
            return super().get_per_pair_loss(*arguments).square() / 2

    embedding, labels = batch(20, seed=seed)
    other = Squared(neg_margin=1.0, distance=lp_distance())
    same_values_and_gradients(
        lambda x: ContrastiveLoss(1.0)(x, labels),
        lambda x: other(x, labels),
        embedding,
    )


def test_center_loss_is_the_paper_s_loop():
    loss = CenterLoss(CLASSES, DIM, rate=0.3).double()
    centers = [[0.0] * DIM for _ in range(CLASSES)]
    for step in range(4):
        embedding, labels = batch(10, seed=step)
        embedding.requires_grad_()
        value = loss(embedding, labels)
        value.backward()
        expected, changes = 0.0, [[0.0] * DIM for _ in range(CLASSES)]
        for x, label, slope in zip(embedding, labels.tolist(), embedding.grad, strict=True):
            for axis in range(DIM):
                away = x[axis].item() - centers[label][axis]
                expected += away**2 / 2 / 10
                changes[label][axis] -= away
                assert slope[axis].item() == pytest.approx(away / 10, abs=1e-12)
        assert value.item() == pytest.approx(expected, abs=1e-12)
        counts = Counter(labels.tolist())
        for label in range(CLASSES):
            for axis in range(DIM):
                centers[label][axis] -= 0.3 * changes[label][axis] / (1 + counts[label])
        torch.testing.assert_close(loss.centers, torch.tensor(centers, dtype=torch.float64))


def test_the_centres_stand_still_when_judging_and_are_in_the_state_dict():
    loss = CenterLoss(CLASSES, DIM)
    embedding, labels = batch()
    loss(embedding.float(), labels)
    moved = loss.centers.clone()
    assert moved.abs().max() > 0
    loss.eval()(embedding.float(), labels)
    assert torch.equal(loss.centers, moved)
    other = CenterLoss(CLASSES, DIM)
    other.load_state_dict(loss.state_dict())
    assert torch.equal(other.centers, moved)
    assert not list(loss.parameters())


def test_centres_come_to_the_class_means():
    generator = torch.Generator().manual_seed(0)
    loss = CenterLoss(CLASSES, DIM)
    means = torch.randn(CLASSES, DIM, generator=generator)
    for _ in range(300):
        labels = torch.randint(CLASSES, (32,), generator=generator)
        loss(means[labels] + 0.01 * torch.randn(32, DIM, generator=generator), labels)
    torch.testing.assert_close(loss.centers, means, rtol=0, atol=0.02)


# --------------------------------------------------------------------------------- by hand


def on_a_line(*places: float) -> torch.Tensor:
    """Distances (B, B) of points on a line, which a loss reduces to its value."""
    points = torch.tensor(places, dtype=torch.float64)
    return (points[:, None] - points).abs()


def same_class(*labels: int) -> torch.Tensor:
    return torch.tensor(labels)[:, None] == torch.tensor(labels)


def test_batch_hard_by_hand():
    # Class 0 at 0, 1 and 3, class 1 at 4, class 2 at 3.5: the last two have no positive.
    value = TripletLoss(1.0).reduce(on_a_line(0, 1, 3, 4, 3.5), same_class(0, 0, 0, 1, 2))
    expected = (max(3 - 3.5 + 1, 0) + max(2 - 2.5 + 1, 0) + (3 - 0.5 + 1)) / 3
    assert value.item() == pytest.approx(expected, abs=1e-12)


def test_semi_hard_by_hand():
    # The pair 0-1 of class 0 has distance 1. From 0 the negatives are at 0.5 (hard: left out),
    # 1.2 (semi-hard, the nearest) and 1.4; from 1 at 0.5, 0.2 and 0.4 (hard, all).
    loss, same = TripletLoss(0.5, "semi_hard"), same_class(0, 0, 1, 2, 3)
    value = loss.reduce(on_a_line(0, 1, 0.5, 1.2, 1.4), same)
    assert value.item() == pytest.approx(1 - 1.2 + 0.5, abs=1e-12)
    # Only hard ones and ones beyond the margin: nothing, and no slope.
    distance = on_a_line(0, 1, 0.5, 9, 9).requires_grad_()
    value = loss.reduce(distance, same)
    value.backward()
    assert value.item() == 0
    assert distance.grad.abs().max() == 0


def test_a_negative_as_far_as_the_positive_is_not_semi_hard_and_hides_no_other():
    loss = TripletLoss(0.5, "semi_hard")
    value = loss.reduce(on_a_line(0, 1, -1, 1.2), same_class(0, 0, 1, 2))
    assert value.item() == pytest.approx(1 - 1.2 + 0.5, abs=1e-12)


def test_a_small_distance_keeps_its_digits():
    generator = torch.Generator().manual_seed(0)
    far = 100 * torch.randn(30, 64, generator=generator)  # length 800, in pairs 0.08 apart
    x = torch.cat([far, far + 0.01 * torch.randn(30, 64, generator=generator)])
    labels = torch.arange(30).repeat(2)
    unit = F.normalize(x).double()
    exact = (unit[30:] - unit[:30]).square().sum(1).mean() / 2
    value = ContrastiveLoss(0.0)(x, labels)
    assert value.item() == pytest.approx(exact.item(), rel=1e-2)  # of float32's unit vectors


def test_contrastive_by_hand():
    # One pair of one class at distance 2; of two classes at 3 and 1, of which one is within 2.5.
    value = ContrastiveLoss(2.5).reduce(on_a_line(0, 2, 3), same_class(0, 0, 1))
    assert value.item() == pytest.approx((2**2 + (2.5 - 1) ** 2) / 2, abs=1e-12)


def test_a_batch_of_one_class_has_no_negative_and_costs_a_triplet_nothing():
    x, labels = batch(6)[0].requires_grad_(), torch.zeros(6, dtype=torch.int64)
    for mining in ("batch_hard", "semi_hard"):
        value = TripletLoss(0.2, mining)(x, labels)
        assert value.item() == 0
        assert torch.autograd.grad(value, x)[0].abs().max() == 0


# ----------------------------------------------------------------------------------- gradients


@every_loss
@pytest.mark.parametrize("seed", range(3))
def test_gradients_are_exact(spec, seed):
    loss = make(spec).eval()  # so that the centres stand still
    embedding, labels = batch(12, seed=seed)
    value = loss(embedding.requires_grad_(), labels)
    assert value.item() > 0
    assert torch.autograd.gradcheck(lambda x: loss(x, labels), embedding)


ROWS = [[0.0] * DIM, [1.0] * DIM, [-1.0] * DIM, [1.0, 0, 0, 0, 0], [0.3, -2.0, 0.5, 1.0, 4.0]]


@every_loss
@given(
    picks=st.lists(
        st.tuples(st.sampled_from(ROWS), st.sampled_from([1e-6, 1.0, 1e4]), st.integers(0, 1)),
        min_size=3,  # of two classes: two are of one
        max_size=10,
    )
)
@settings(max_examples=60)
def test_values_and_gradients_are_finite_for_any_finite_embedding(spec, picks):
    """Equal, opposite, zero, huge and tiny ones among them."""
    x = torch.tensor([[size * value for value in row] for row, size, _ in picks])
    labels = torch.tensor([label for *_, label in picks])
    x.requires_grad_()
    value = make(spec).float()(x, labels)
    value.backward()
    assert value.isfinite()
    assert value >= 0
    assert x.grad.isfinite().all()


@every_loss
def test_equal_embeddings_of_one_class_do_not_pull_at_each_other(spec):
    x = torch.ones(4, DIM).requires_grad_()
    loss = make(spec).float()
    if spec == "center":
        loss.centers = torch.ones(CLASSES, DIM)
    value = loss(x, torch.zeros(4, dtype=torch.int64))
    value.backward()
    assert value.item() == 0
    assert x.grad.abs().max() == 0


# ---------------------------------------------------------------------------------- properties


@every_loss
@given(seed=st.integers(0, 10_000))
@settings(max_examples=20)
def test_neither_the_names_of_classes_nor_the_order_of_images_matter(spec, seed):
    embedding, labels = batch(seed=seed)
    order = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(seed))
    shuffle = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed + 1))
    loss, renamed = make(spec).eval(), make(spec).eval()
    if spec == "center":
        renamed.centers = loss.centers[order.argsort()]
    found = renamed(embedding[shuffle], order[labels][shuffle])
    torch.testing.assert_close(found, loss(embedding, labels), rtol=1e-12, atol=1e-12)


@every_loss
def test_the_loss_falls_when_an_embedding_moves_toward_its_class(spec):
    """One image of class 0 turns, on a circle, from among class 1 to its own class."""
    loss = make(spec).eval()
    degrees = torch.tensor([0.0, 2.0, 0.0, 88.0, 91.0], dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1, 1])
    if spec == "center":
        loss.centers = torch.zeros(CLASSES, 2).double()
        loss.centers[0, 0] = loss.centers[1, 1] = 1.0
    found = []
    for place in range(80, 5, -5):
        degrees[2] = place
        x = torch.stack([degrees.deg2rad().cos(), degrees.deg2rad().sin()], dim=1)
        found.append(loss(x, labels))
    found = torch.stack(found)
    assert found[-1] < found[0]
    if "semi_hard" in name_of(spec):  # which triplets count changes on the way
        return
    assert (found.diff() < 0).all() or found.diff()[found[1:] > 0].max() < 0


@pytest.mark.parametrize("spec", ["triplet", "contrastive"])
def test_at_unit_length_only_directions_count(spec):
    embedding, labels = batch()
    sizes = torch.linspace(0.1, 10, len(labels), dtype=torch.float64)[:, None]
    loss = make(spec)
    torch.testing.assert_close(loss(embedding * sizes, labels), loss(embedding, labels))


# ------------------------------------------------------------------- precision and compilation


@every_loss
def test_autocast_changes_nothing(spec):
    embedding, labels = batch()
    loss = make(spec).float().eval()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        expected = loss(embedding.to(dtype).float(), labels)
        with torch.autocast("cpu", torch.bfloat16):
            found = loss(embedding.to(dtype), labels)
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)


@pytest.mark.parametrize("spec", [*losses.LOSSES, SPECS[2]], ids=name_of)
def test_compiled_into_one_graph_it_gives_the_same(spec):
    """Of two steps, because centres move in between; the backend takes what the backward pass
    needs from where it is cheapest, as the default one does."""
    torch.compiler.reset()
    backend = "aot_eager_decomp_partition"
    found = []
    for compiled in (False, True):
        loss = make(spec).float()
        call = torch.compile(loss, fullgraph=True, backend=backend) if compiled else loss
        rows = []
        for seed in (1, 2):
            embedding, labels = batch(seed=seed)
            x = embedding.float().requires_grad_()
            value = call(x, labels)
            value.backward()
            rows += [value.detach(), x.grad]
        found.append([*rows, *loss.buffers()])
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-6, atol=1e-7)


# ----------------------------------------------------------------------------------- objective


class SmallNet(nn.Module):
    """What an objective asks of a network, and no more."""

    def __init__(self, head="linear", dropout: float = 0.0) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.dropout = nn.Dropout(dropout)
        self.head = heads.build(head, 8, CLASSES)
        self.calls = 0

    def features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        embedding = self.embed(x)
        return embedding, self.dropout(embedding)

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return self.norm(self.stem(x)).relu().mean((2, 3))


def images(size: int = 12):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(size, 3, 8, 8, generator=generator), torch.arange(size) % CLASSES


def objective(head="linear", auxiliary_loss=None, dropout: float = 0.0, **options) -> Objective:
    torch.manual_seed(0)
    net = SmallNet(head, dropout)
    if auxiliary_loss is not None:
        auxiliary_loss = losses.build(auxiliary_loss, 8, CLASSES)
    return Objective(net, auxiliary_loss, **options)


def test_an_objective_is_the_sum_of_its_parts():
    whole = objective("lgm", "center", weight=0.25, label_smoothing=0.1).eval()
    x, labels = images()
    loss, logits = whole(x, labels)
    assert whole.network.calls == 1
    embedding = whole.network.embed(x)
    torch.testing.assert_close(logits, whole.network.head(embedding, labels))
    expected = F.cross_entropy(logits, labels, label_smoothing=0.1)
    expected = expected + whole.network.head.penalty(embedding, labels)
    expected = expected + 0.25 * whole.auxiliary_loss(embedding, labels)
    torch.testing.assert_close(loss, expected)
    assert whole.network.head.penalty(embedding, labels) > 0
    assert whole.auxiliary_loss(embedding, labels) > 0


def test_without_extras_it_is_the_cross_entropy_of_the_network():
    whole = objective().eval()
    x, labels = images()
    loss, logits = whole(x, labels)
    assert torch.equal(logits, whole.network.head(whole.network.embed(x)))
    assert torch.equal(loss, nn.CrossEntropyLoss()(logits, labels))


def test_dropout_is_on_the_head_s_way_alone():
    """Of two calls the logits differ, and what the auxiliary loss sees does not."""
    seen = []

    class Watch(nn.Module):
        def forward(self, embedding, labels):
            seen.append(embedding.detach())
            return embedding.sum() * 0

    whole = objective(dropout=0.5)
    whole.auxiliary_loss = Watch()
    x, labels = images()
    (_, first), (_, second) = whole(x, labels), whole(x, labels)
    assert not torch.equal(first, second)
    assert torch.equal(*seen)


def test_an_autocast_that_ends_in_another_thread_changes_no_gradient():
    """It empties the cache that all threads share, perhaps between a head's two calls on a mix."""
    x, labels = images()

    def gradients(emptied: bool) -> list[torch.Tensor]:
        whole = objective(precision=torch.bfloat16)
        if emptied:
            whole.network.head.register_forward_pre_hook(
                lambda *_: torch.clear_autocast_cache()  # as `torch.autocast.__exit__` does
            )
        lam = torch.linspace(0.1, 0.9, len(x))
        whole(x, labels, labels.roll(1), lam)[0].backward()
        return [p.grad for p in whole.parameters()]

    for alone, disturbed in zip(gradients(False), gradients(True), strict=True):
        assert torch.equal(alone, disturbed)


def test_an_objective_takes_this_kit_s_networks():
    net = models.build("tiny", CLASSES)
    dim = net.dim
    whole = Objective(net, losses.build("triplet", dim, CLASSES))
    x, labels = torch.rand(8, 3, 32, 32), torch.arange(8) % CLASSES
    loss, logits = whole(x, labels)
    assert logits.shape == (8, CLASSES)
    assert loss > F.cross_entropy(logits, labels)


PAIRS = [(head, None) for head in heads.HEADS] + [("linear", spec) for spec in SPECS]
PAIRS += [("lgm", "center")]


def moved_by_one_step(whole: Objective, step) -> dict[str, bool]:
    """Which tensors a step changes; every one stays in float32."""
    before = {name: p.detach().clone() for name, p in whole.named_parameters()}
    step()
    for tensor in whole.state_dict().values():
        assert tensor.dtype in (torch.float32, torch.int64)
    return {name: (p != before[name]).any().item() for name, p in whole.named_parameters()}


@pytest.mark.parametrize(
    ("head", "auxiliary_loss"), PAIRS, ids=[f"{name_of(h)}-{e}" for h, e in PAIRS]
)
@pytest.mark.parametrize("outside", [False, True], ids=["own autocast", "autocast outside"])
def test_one_step_in_bfloat16_moves_every_trainable_tensor(head, auxiliary_loss, outside):
    precision = None if outside else torch.bfloat16
    whole = objective(head, auxiliary_loss, precision=precision)
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.1)
    x, labels = images()

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=outside):
            loss, logits = whole(x, labels)
        assert loss.dtype == logits.dtype == torch.float32
        loss.backward()
        for parameter in whole.parameters():
            assert parameter.grad.dtype == torch.float32
        optimizer.step()

    assert all(moved_by_one_step(whole, step).values())
    vectors = whole.network.head.weight
    assert (vectors.grad.abs().sum(1) > 0).all()  # of every class
    if auxiliary_loss == "center":
        assert whole.auxiliary_loss.centers.abs().max() > 0


@pytest.mark.parametrize(
    ("head", "auxiliary_loss"), PAIRS, ids=[f"{name_of(h)}-{e}" for h, e in PAIRS]
)
def test_one_step_in_float16_with_a_gradient_scaler(head, auxiliary_loss):
    whole = objective(head, auxiliary_loss, precision=torch.float16)
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    x, labels = images()

    def step():
        loss, _ = whole(x, labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    assert all(moved_by_one_step(whole, step).values())
    assert scaler.get_scale() == 1024.0  # no gradient overflowed


@pytest.mark.parametrize("head", heads.HEADS)
def test_an_objective_compiles_into_one_graph(head):
    """With the network's autocast inside, the float32 parts stay exact in the backward pass."""
    torch.compiler.reset()
    found = []
    for compiled in (False, True):
        whole = objective(head, "center", precision=torch.bfloat16)
        call = torch.compile(whole, fullgraph=True, backend="aot_eager") if compiled else whole
        loss, logits = call(*images())
        loss.backward()
        vectors = whole.network.head.weight.grad
        found.append([loss.detach(), logits.detach(), vectors, whole.auxiliary_loss.centers])
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-5, atol=1e-6)


def test_training_with_an_objective_lowers_it():
    for head in heads.HEADS:
        whole = objective(head, "triplet", weight=0.5)
        optimizer = torch.optim.AdamW(whole.parameters(), lr=0.02)
        x, labels = images(8)
        found = []
        for _ in range(30):
            loss, _ = whole(x, labels)
            found.append(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        assert found[-1] < found[0], head


# ----------------------------------------------------------------------------------- bad input

NAN = float("nan")


@every_loss
def test_a_bad_batch_is_refused_and_named(spec):
    loss = losses.build(spec, DIM, CLASSES)
    x, labels = torch.rand(4, DIM), torch.tensor([0, 0, 1, 1])
    for bad, text in (
        ((x, labels.float()), r"labels must be int64 \(4,\), not float32 \(4,\)"),
        ((x, labels[:3]), r"labels must be int64 \(4,\), not int64 \(3,\)"),
    ):
        with pytest.raises(BatchError, match=text) as caught:
            loss(*bad)
        assert isinstance(caught.value, FacekitError)
        assert isinstance(caught.value, ValueError)


def test_center_loss_refuses_labels_it_has_no_centre_for():
    loss = CenterLoss(CLASSES, DIM)
    with pytest.raises(BatchError, match=r"label 4 is not one of 0 \.\.\. 3"):
        loss(torch.rand(2, DIM), torch.tensor([0, 4]))
    assert loss.centers.abs().max() == 0


@pytest.mark.parametrize("kind", [TripletLoss, ContrastiveLoss])
def test_a_batch_without_two_images_of_one_class_is_refused(kind):
    text = "no two of the 3 images of this batch are of one class.*images_per_class"
    with pytest.raises(BatchError, match=text):
        kind()(torch.rand(3, DIM), torch.tensor([5, 0, 2]))


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("angular", "no loss 'angular'; choose one of: center, triplet, contrastive"),
        ({"rate": 0.5}, "no loss None; choose one of"),
        (None, "a loss is a name or a table with a name, not None"),
        ({"name": "center", "margin": 1}, "loss 'center' has no option 'margin'; it has: rate"),
        ({"name": "center", "rate": 1.5}, "rate must be a number in 0 ... 1, not 1.5"),
        ({"name": "center", "rate": -0.5}, "rate must be a number in 0 ... 1, not -0.5"),
        ({"name": "triplet", "margin": -0.2}, "margin must be a number at least 0, not -0.2"),
        ({"name": "triplet", "margin": NAN}, "margin must be a number at least 0, not nan"),
        (
            {"name": "triplet", "mining": "all"},
            "no mining 'all'; choose one of: batch_hard, semi_hard",
        ),
        ({"name": "contrastive", "margin": "1"}, "margin must be .* not '1'"),
    ],
)
def test_a_bad_loss_is_refused_and_named(spec, text):
    with pytest.raises(RecipeError, match=text):
        losses.build(spec, DIM, CLASSES)


def test_a_loss_is_built_from_plain_data():
    assert losses.build("center", 3, 7).centers.shape == (7, 3)
    loss = losses.build({"name": "triplet", "margin": 0.4, "mining": "semi_hard"}, 3, 7)
    assert (loss.margin, loss.mining) == (0.4, "semi_hard")
    assert [type(losses.build(name, 3, 7)) for name in losses.LOSSES] == [
        CenterLoss,
        TripletLoss,
        ContrastiveLoss,
    ]
