"""Heads: equal to other implementations and to slow loops; exact, finite gradients; honest."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from facekit.common.errors import BatchError, FacekitError, RecipeError
from facekit.models import heads
from facekit.models.heads import (
    ArcFace,
    CosFace,
    Head,
    LargeMarginGaussianMixture,
    LargeMarginSoftmax,
    Linear,
)

HARD = {"name": "lsoftmax", "lambda_start": 0, "lambda_floor": 0}
SPECS = [*heads.HEADS, HARD]
PLAIN = [  # each margin head without its margin
    {"name": "arcface", "margin": 0},
    {"name": "cosface", "margin": 0.0},
    HARD | {"margin": 1},
    {"name": "lgm", "margin": 0},
]
DIM, CLASSES = 6, 5


def name_of(spec) -> str:
    return spec if isinstance(spec, str) else "-".join(map(str, spec.values()))


every_head = pytest.mark.parametrize("spec", SPECS, ids=name_of)
every_margin_head = pytest.mark.parametrize("spec", SPECS[1:], ids=name_of)


def make(spec, dim: int = DIM, classes: int = CLASSES, seed: int = 0) -> Head:
    """A head in float64 whose every parameter is drawn, not zero."""
    head = heads.build(spec, dim, classes).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator).double() / 2)
    return head


def batch(size: int = 12, dim: int = DIM, classes: int = CLASSES, seed: int = 1):
    """Embeddings in float64 and labels."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (size,), generator=generator)
    return torch.randn(size, dim, generator=generator).double(), labels


def loss_of(head: Head, embedding: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return F.cross_entropy(head(embedding, labels), labels) + head.penalty(embedding, labels)


def gradients(head: Head, embedding: torch.Tensor, labels: torch.Tensor) -> list[torch.Tensor]:
    embedding = embedding.detach().requires_grad_()
    return torch.autograd.grad(
        loss_of(head, embedding, labels), [embedding, *head.parameters()], allow_unused=True
    )


# ------------------------------------------------------------------------------------- oracles


def same_as_metric_learning(head: Head, other, embedding, labels) -> None:
    """Loss and gradients, both in float32; the other library keeps the vectors as (D, C)."""
    head.float()
    embedding = embedding.float()
    with torch.no_grad():
        other.W.copy_(head.weight.T)
    mine = embedding.clone().requires_grad_()
    loss = F.cross_entropy(head(mine, labels), labels)
    loss.backward()
    theirs = embedding.clone().requires_grad_()
    expected = other(theirs, labels)
    expected.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(head.weight.grad, other.W.grad.T, rtol=1e-4, atol=2e-6)
    torch.testing.assert_close(head(embedding), other.get_logits(embedding), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("margin", [0.1, 0.5, 1.2])
@pytest.mark.parametrize("scale", [4.0, 32.0])
def test_arcface_is_that_of_pytorch_metric_learning(margin, scale):
    from pytorch_metric_learning.losses import ArcFaceLoss

    head = make({"name": "arcface", "margin": margin, "scale": scale})
    embedding, labels = batch(40)
    own = F.cosine_similarity(embedding, head.weight[labels])
    if margin == 1.2:  # the margin's other branch is seen too
        assert (own < -math.cos(margin)).any()
    other = ArcFaceLoss(CLASSES, DIM, margin=math.degrees(margin), scale=scale)
    same_as_metric_learning(head, other, embedding, labels)


@pytest.mark.parametrize("margin", [0.1, 0.35])
def test_cosface_is_that_of_pytorch_metric_learning(margin):
    from pytorch_metric_learning.losses import CosFaceLoss

    head = make({"name": "cosface", "margin": margin, "scale": 20.0})
    other = CosFaceLoss(CLASSES, DIM, margin=margin, scale=20)
    same_as_metric_learning(head, other, *batch(40))


@pytest.mark.parametrize("margin", [1, 2, 3, 4])
def test_large_margin_softmax_is_that_of_pytorch_metric_learning(margin):
    from pytorch_metric_learning.losses import LargeMarginSoftmaxLoss

    other = LargeMarginSoftmaxLoss(CLASSES, DIM, margin=margin)
    same_as_metric_learning(make(HARD | {"margin": margin}), other, *batch(40))


@pytest.mark.parametrize("margin", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("steps", [0, 7, 10_000])
def test_large_margin_softmax_is_the_paper_s_formula_at_any_lambda(margin, steps):
    head = make({"name": "lsoftmax", "margin": margin}).eval()
    head.steps.fill_(steps)
    weight = head.annealing().item()
    assert weight == pytest.approx(max(5.0, 1000.0 / (1 + 0.1 * steps)), rel=1e-6)
    embedding, labels = batch(60)
    logits = head(embedding, labels)
    for x, label, row in zip(embedding, labels.tolist(), logits, strict=True):
        for k, vector in enumerate(head.weight):
            lengths = x.norm().item() * vector.norm().item()
            cosine = (x @ vector).item() / lengths
            score = cosine
            if k == label:
                angle = math.acos(cosine)
                part = math.floor(angle * margin / math.pi)
                psi = (-1) ** part * math.cos(margin * angle) - 2 * part
                score = (weight * cosine + psi) / (1 + weight)
            assert row[k].item() == pytest.approx(lengths * score, abs=1e-9)


def test_l_gm_is_the_log_likelihood_of_gaussians_with_the_margin_on_the_own_distance():
    head = make({"name": "lgm", "margin": 0.3, "likelihood": 0.07})
    embedding, labels = batch(20)
    logits, plain = head(embedding, labels), head(embedding)
    total = 0.0
    for i, (x, label) in enumerate(zip(embedding, labels.tolist(), strict=True)):
        for k, mean in enumerate(head.weight):
            half = sum((a - b) ** 2 for a, b in zip(x.tolist(), mean.tolist(), strict=True)) / 2
            expected = -half * (1.3 if k == label else 1.0)
            assert logits[i, k].item() == pytest.approx(expected, abs=1e-9)
            assert plain[i, k].item() == pytest.approx(-half, abs=1e-9)
            total += half if k == label else 0.0
    assert head.penalty(embedding, labels).item() == pytest.approx(0.07 * total / 20, abs=1e-9)


def test_l_gm_is_torch_s_gaussian_but_for_the_constant():
    head = make("lgm")
    embedding, _ = batch(4)
    normal = torch.distributions.Normal(head.weight, 1)
    expected = normal.log_prob(embedding[:, None]).sum(2) + DIM / 2 * math.log(2 * math.pi)
    torch.testing.assert_close(head(embedding), expected)


# ----------------------------------------------------------------------------------- gradients


@every_head
@pytest.mark.parametrize("size", [3, 40])
def test_gradients_are_exact(spec, size):
    head = make(spec).eval()  # so that the steps of the annealing stand still
    embedding, labels = batch(size)
    names = [name for name, _ in head.named_parameters()]

    def function(x, *values):
        return torch.func.functional_call(head, dict(zip(names, values, strict=True)), (x, labels))

    values = tuple(p.detach().clone().requires_grad_() for p in head.parameters())
    assert torch.autograd.gradcheck(function, (embedding.requires_grad_(), *values))


def test_the_gradients_of_the_penalty_are_exact():
    head = make({"name": "lgm", "likelihood": 1.0})
    embedding, labels = batch()
    inputs = (embedding.requires_grad_(), *head.parameters())
    assert torch.autograd.gradcheck(lambda x, *_: head.penalty(x, labels), inputs)


def test_arcface_has_the_textbook_slope():
    head = ArcFace(2, 2, scale=1.0, margin=0.4).double()
    for angle in (0.01, 0.3, 1.5, 2.7):
        cosine = torch.tensor([[math.cos(angle)]], dtype=torch.float64, requires_grad=True)
        head.with_margin(cosine).backward()
        expected = math.sin(angle + 0.4) / math.sin(angle)
        assert cosine.grad.item() == pytest.approx(expected, rel=1e-6)


def row(kind: str, vector: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    size, _, what = kind.partition(" ")
    options = {
        "random": torch.randn(len(vector), generator=generator),
        "equal": vector / vector.norm(),
        "opposite": -vector / vector.norm(),
        "one axis": torch.eye(len(vector))[0],
        "zero": torch.zeros(len(vector)),
    }
    return float(size) * options[what]


KINDS = [
    f"{size} {what}"
    for size in ("1e-6", "1", "1e4")
    for what in ("random", "equal", "opposite", "one axis", "zero")
]


@every_head
@given(kinds=st.lists(st.sampled_from(KINDS), min_size=1, max_size=8), seed=st.integers(0, 999))
@settings(max_examples=60)
def test_logits_and_gradients_are_finite_for_any_finite_embedding(spec, kinds, seed):
    head = make(spec, seed=seed).float()
    with torch.no_grad():  # a vector along an axis, so that some cosines are 1 exactly
        head.weight[0] = 2 * torch.eye(DIM)[0]
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(CLASSES, (len(kinds),), generator=generator)
    pairs = zip(kinds, head.weight.detach()[labels], strict=True)
    embedding = torch.stack([row(kind, vector, generator) for kind, vector in pairs])
    assert head(embedding, labels).isfinite().all()
    found = gradients(head, embedding, labels)
    assert all(part.isfinite().all() for part in found if part is not None)


@pytest.mark.parametrize("name", ["arcface", "cosface"])
@pytest.mark.parametrize("sign", [1, -1])
def test_at_cosine_one_nothing_pulls_sideways_and_nothing_is_nan(name, sign):
    head = heads.build(name, 4, 2)
    with torch.no_grad():
        head.weight.copy_(torch.eye(4)[:2])
    embedding = sign * torch.eye(4)[:1]
    found = gradients(head, embedding, torch.tensor([0]))[0]
    assert found.isfinite().all()
    assert found[0, [0, 2, 3]].abs().max() == 0  # only class 1's vector is to be left


def test_an_embedding_without_a_direction_is_left_where_it_is():
    for name in ("arcface", "cosface"):
        head = heads.build(name, DIM, CLASSES)
        embedding, labels = torch.zeros(2, DIM), torch.tensor([0, 1])
        assert head(embedding).abs().max() == 0
        assert gradients(head, embedding, labels)[0].abs().max() == 0


# ---------------------------------------------------------------------------------- properties


@every_head
@given(seed=st.integers(0, 10_000))
@settings(max_examples=20)
def test_classes_may_come_in_any_order(spec, seed):
    head, permuted = make(spec).eval(), make(spec).eval()
    embedding, labels = batch(seed=seed)
    order = torch.randperm(CLASSES, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        for mine, theirs in zip(permuted.parameters(), head.parameters(), strict=True):
            mine.copy_(theirs[order])
    moved = order.argsort()[labels]  # where the old class is now
    torch.testing.assert_close(permuted(embedding, moved), head(embedding, labels)[:, order])
    torch.testing.assert_close(permuted(embedding), head(embedding)[:, order])
    torch.testing.assert_close(permuted.penalty(embedding, moved), head.penalty(embedding, labels))


@pytest.mark.parametrize("spec", PLAIN, ids=name_of)
def test_a_margin_of_nothing_is_the_plain_head(spec):
    head = make(spec).eval()
    embedding, labels = batch(60)
    torch.testing.assert_close(head(embedding, labels), head(embedding), rtol=1e-12, atol=1e-12)


def test_without_a_margin_arcface_and_cosface_are_a_scaled_cosine():
    arc, cos = (make({"name": name, "margin": 0, "scale": 7}) for name in ("arcface", "cosface"))
    embedding, labels = batch()
    expected = 7 * F.cosine_similarity(embedding[:, None], arc.weight[None], dim=2)
    torch.testing.assert_close(arc(embedding, labels), expected)
    torch.testing.assert_close(cos(embedding, labels), expected)


@every_margin_head
def test_a_margin_lowers_the_own_logit_and_no_other(spec):
    head = make(spec).eval()
    embedding, labels = batch(60)
    change = head(embedding, labels) - head(embedding)
    own = F.one_hot(labels, CLASSES).bool()
    assert (change[own] < 0).all()
    assert (change[~own] == 0).all()


def test_the_linear_head_has_no_margin_and_no_penalty():
    head = make("linear")
    embedding, labels = batch()
    assert torch.equal(head(embedding, labels), embedding @ head.weight.T + head.bias)
    assert head.penalty(embedding, labels).item() == 0


@pytest.mark.parametrize(
    "spec",
    [
        *({"name": "arcface", "margin": m} for m in (0.1, 0.5, 1.0, math.pi / 2)),
        {"name": "cosface"},
        *(HARD | {"margin": m} for m in (1, 2, 3, 4, 7)),
        {"name": "lsoftmax"},
    ],
    ids=name_of,
)
def test_the_own_logit_falls_with_the_angle_all_the_way_round(spec):
    head = make(spec, 2, 2).eval()
    with torch.no_grad():
        head.weight.copy_(torch.eye(2))
    angles = torch.linspace(0, math.pi, 4001, dtype=torch.float64)
    embedding = 3 * torch.stack([angles.cos(), angles.sin()], dim=1)
    own = head(embedding, torch.zeros(len(angles), dtype=torch.int64))[:, 0]
    assert (own.diff() < 0).all()


@every_head
@pytest.mark.parametrize("seed", range(5))
def test_the_loss_falls_when_an_embedding_moves_toward_its_class(spec, seed):
    """Class vectors at right angles and a start on no side away from one: then nearer to the
    own class is nearer to no other."""
    head = make(spec).eval()
    embedding, labels = batch(1, seed=seed)
    embedding = F.normalize(embedding.abs())
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.weight.copy_(torch.eye(CLASSES, DIM))
    losses = []
    for part in torch.linspace(0, 1, 30, dtype=torch.float64):
        if head.similarity == "cosine":  # along a circle
            between = slerp(embedding, head.weight.detach()[labels], part)
        else:
            between = torch.lerp(embedding, head.weight.detach()[labels], part)
        losses.append(loss_of(head, between, labels))
    assert (torch.stack(losses).diff() < 0).all()


def slerp(start: torch.Tensor, end: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """Turned toward `end` by a part of the angle between, at the length of `start`."""
    a, b = F.normalize(start), F.normalize(end)
    angle = (a * b).sum().acos()
    turned = ((1 - part) * angle).sin() * a + (part * angle).sin() * b
    return start.norm() * turned / angle.sin()


def test_every_head_says_what_similarity_suits_it():
    found = {name: kind.similarity for name, kind in heads.HEADS.items()}
    assert found == dict.fromkeys(heads.HEADS, "cosine") | {"lgm": "euclidean"}


# ------------------------------------------------------------------- precision and compilation


@every_margin_head
def test_autocast_changes_nothing(spec):
    head = make(spec).float().eval()
    embedding, labels = batch()
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        x = embedding.to(dtype)
        expected = head(x.float(), labels), head(x.float()), head.penalty(x.float(), labels)
        with torch.autocast("cpu", torch.bfloat16):
            found = head(x, labels), head(x), head.penalty(x, labels)
        for mine, right in zip(found, expected, strict=True):
            assert mine.dtype == torch.float32
            assert torch.equal(mine, right)


def test_the_linear_head_takes_part_in_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert make("linear").float()(batch()[0].float()).dtype == torch.bfloat16


@every_head
def test_float64_stays_float64(spec):
    head = make(spec)
    assert head(*batch()).dtype == head(batch()[0]).dtype == torch.float64


def test_l_gm_keeps_the_digits_of_a_small_distance_between_long_vectors():
    head = heads.build({"name": "lgm", "margin": 0}, 512, 10)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        head.weight.copy_(20 * torch.randn(10, 512, generator=generator))  # length 450
    labels = torch.arange(10)
    embedding = head.weight.detach() + 0.1 * torch.randn(10, 512, generator=generator)
    exact = (embedding.double() - head.weight.double()).square().sum(1) / 2  # about 2.5
    with torch.autocast("cpu", torch.bfloat16):
        own = -head(embedding, labels).diagonal()
        plain = -head(embedding).diagonal()
    torch.testing.assert_close(own.double(), exact, rtol=1e-6, atol=0)
    torch.testing.assert_close(plain.double(), exact, rtol=0, atol=0.1)


@pytest.mark.parametrize("spec", heads.HEADS)
def test_compiled_into_one_graph_it_gives_the_same(spec):
    """With autocast the objective's test does this: see test_losses."""
    torch.compiler.reset()
    embedding, labels = batch()
    found = []
    for compiled in (False, True):
        head = make(spec).float()
        x = embedding.float().requires_grad_()

        def call(x, labels, head=head):
            return head(x, labels), loss_of(head, x, labels), head(x)

        if compiled:
            call = torch.compile(call, fullgraph=True, backend="aot_eager")
        logits, loss, plain = call(x, labels)
        loss.backward()
        grads = [x.grad, *(p.grad for p in head.parameters())]
        found.append([logits.detach(), loss.detach(), plain.detach(), *grads, *head.buffers()])
    for eager, compiled in zip(*found, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("spec", heads.HEADS)
def test_it_can_be_exported(spec):
    head = make(spec).float().eval()
    embedding = batch()[0].float()
    program = torch.export.export(head, (embedding,), dynamic_shapes=({0: torch.export.Dim("B")},))
    more = batch(5, seed=3)[0].float()
    torch.testing.assert_close(program.module()(more), head(more))


@every_head
def test_it_runs_on_the_meta_device_where_no_value_exists(spec):
    head = heads.build(spec, DIM, CLASSES).to("meta")
    embedding, labels = (part.to("meta") for part in batch())
    assert head(embedding.float(), labels).shape == (12, CLASSES)


# ----------------------------------------------------------------------------------- annealing


def test_the_annealing_counts_training_calls_and_is_in_the_state_dict():
    head = LargeMarginSoftmax(DIM, CLASSES, lambda_start=100.0, lambda_decay=0.5, lambda_floor=2.0)
    embedding, labels = (part.float() if part.is_floating_point() else part for part in batch())
    seen = []
    for _ in range(4):
        seen.append(head.annealing().item())
        head(embedding, labels)
        head(embedding)  # judging is no step
        head.eval()(embedding, labels)
        head.train()
    assert seen == pytest.approx([100, 100 / 1.5, 50, 40])
    other = LargeMarginSoftmax(DIM, CLASSES, lambda_start=100.0, lambda_decay=0.5, lambda_floor=2.0)
    other.load_state_dict(head.state_dict())
    assert other.steps.item() == 4
    assert torch.equal(other(embedding, labels), head(embedding, labels))
    head.steps.fill_(10**6)
    assert head.annealing().item() == 2.0


def test_the_first_step_of_the_annealing_is_nearly_the_plain_product():
    head = make("lsoftmax")
    embedding, labels = batch()
    change = head(embedding, labels) - head(embedding)
    lengths = embedding.norm(dim=1, keepdim=True) * head.weight.norm(dim=1)
    assert 0 < (change.abs() / lengths).max() <= 8 / 1001  # psi is at most 8 below the cosine


# --------------------------------------------------------------------------- start from means


def toy(classes: int = 8, dim: int = 16, each: int = 20):
    """Clusters that are apart both in direction and in place."""
    generator = torch.Generator().manual_seed(0)
    centres = 3 * F.normalize(torch.randn(classes, dim, generator=generator))
    labels = torch.arange(classes).repeat(each)
    noise = 0.2 * torch.randn(len(labels), dim, generator=generator)
    return centres[labels] + noise, labels


@every_head
def test_a_head_started_from_class_means_is_right_at_step_0(spec):
    embedding, labels = toy()
    head = heads.build(spec, 16, 8)
    head.start_from_means(heads.class_means(embedding, labels, 8))
    right = head(embedding).argmax(1) == labels
    assert right.float().mean() == 1
    assert isinstance(head.weight, torch.nn.Parameter)
    assert head.weight.requires_grad


def test_the_linear_head_starts_as_the_nearest_mean():
    embedding, labels = toy()
    means = heads.class_means(embedding, labels, 8)
    head = Linear(16, 8)
    head.start_from_means(means)
    points = 3 * torch.randn(500, 16, generator=torch.Generator().manual_seed(3))
    assert torch.equal(head(points).argmax(1), torch.cdist(points, means).argmin(1))


def test_class_means_are_the_means_of_the_classes():
    embedding, labels = batch(50)
    means = heads.class_means(embedding, labels, CLASSES)
    for label in range(CLASSES):
        torch.testing.assert_close(means[label], embedding[labels == label].mean(0))


# ----------------------------------------------------------------------------------- bad input

NAN, INF = float("nan"), float("inf")
X, Y = torch.ones(3, DIM), torch.tensor([0, 1, 4])


BAD_BATCHES = [
    (X, torch.tensor([0, 5, 1]), "label 5 is not one of 0 ... 4"),
    (X, torch.tensor([0, 1, -1]), "label -1 is not one of 0 ... 4"),
    (X, Y.float(), r"labels must be int64 \(3,\), not float32 \(3,\)"),
    (X, Y.int(), r"labels must be int64 \(3,\), not int32 \(3,\)"),
    (X, Y[:2], r"labels must be int64 \(3,\), not int64 \(2,\)"),
    (X, Y[:, None], r"not int64 \(3, 1\)"),
]


@every_head
@pytest.mark.parametrize(("embedding", "labels", "text"), BAD_BATCHES)
def test_a_bad_batch_is_refused_and_named(spec, embedding, labels, text):
    with pytest.raises(BatchError, match=text) as caught:
        heads.build(spec, DIM, CLASSES)(embedding, labels)
    assert isinstance(caught.value, FacekitError)
    assert isinstance(caught.value, ValueError)


def test_class_means_want_every_class():
    with pytest.raises(BatchError, match="class 2 has no image"):
        heads.class_means(X, torch.tensor([0, 1, 3]), 4)
    with pytest.raises(BatchError, match=r"label 3 is not one of 0 \.\.\. 2"):
        heads.class_means(X, torch.tensor([0, 1, 3]), 3)


BAD_SPECS = [
    ("softmax", "no head 'softmax'; choose one of: linear, arcface, cosface, lsoftmax, lgm"),
    ({"margin": 0.3}, "no head None; choose one of: linear"),
    ({"name": ["arcface"]}, r"no head \['arcface'\]"),
    (7, "a head is a name or a table with a name, not 7"),
    ({"name": "linear", "margin": 1}, "head 'linear' has no option 'margin'; it has: none"),
    ({"name": "arcface", "m": 1}, "head 'arcface' has no option 'm'; it has: scale, margin"),
    ({"name": "arcface", "dim": 9}, "head 'arcface' has no option 'dim'"),
    ({"name": "arcface", "margin": 28.6}, "margin must be a number in 0 ... 1.571, not 28.6"),
    ({"name": "arcface", "margin": -0.1}, "margin must be a number in 0 ... 1.571, not -0.1"),
    ({"name": "arcface", "margin": NAN}, "margin must be .* not nan"),
    ({"name": "arcface", "margin": True}, "margin must be .* not True"),
    ({"name": "arcface", "scale": 0}, "scale must be a number at least 1, not 0"),
    ({"name": "cosface", "scale": -3.0}, "scale must be a number at least 1, not -3.0"),
    ({"name": "cosface", "scale": INF}, "scale must be a number at least 1, not inf"),
    ({"name": "cosface", "margin": 1.5}, "margin must be a number in 0 ... 1, not 1.5"),
    ({"name": "cosface", "margin": "0.2"}, "margin must be .* not '0.2'"),
    ({"name": "lsoftmax", "margin": 2.5}, "margin must be a whole number at least 1, not 2.5"),
    ({"name": "lsoftmax", "margin": 0}, "margin must be a whole number at least 1, not 0"),
    ({"name": "lsoftmax", "lambda_floor": -1}, "lambda_floor must be .* at least 0, not -1"),
    ({"name": "lsoftmax", "lambda_start": NAN}, "lambda_start must be .* not nan"),
    ({"name": "lsoftmax", "lambda_decay": None}, "lambda_decay must be .* not None"),
    ({"name": "lgm", "margin": -1}, "margin must be a number at least 0, not -1"),
    ({"name": "lgm", "likelihood": -0.1}, "likelihood must be a number at least 0, not -0.1"),
    ({"name": "lgm", "variance": 2}, "head 'lgm' has no option 'variance'; it has: margin, like"),
]


@pytest.mark.parametrize(("spec", "text"), BAD_SPECS)
def test_a_bad_head_is_refused_and_named(spec, text):
    with pytest.raises(RecipeError, match=text):
        heads.build(spec, DIM, CLASSES)


def test_a_head_is_built_from_plain_data_that_stays_as_it_is():
    spec = {"name": "arcface", "margin": 0.25}
    head = heads.build(spec, 512, 7001)
    assert isinstance(head, ArcFace)
    assert (head.margin, head.scale) == (0.25, 32.0)
    assert head.weight.shape == (7001, 512)
    assert spec == {"name": "arcface", "margin": 0.25}
    assert repr(head) == "ArcFace(512 -> 7001)"
    kinds = [Linear, ArcFace, CosFace, LargeMarginSoftmax, LargeMarginGaussianMixture]
    assert [type(heads.build(name, 4, 3)) for name in heads.HEADS] == kinds


@every_head
def test_at_7001_classes_a_fresh_head_starts_near_chance(spec):
    """Without a margin: about ln 7001 = 8.85, however the margin then raises the loss."""
    head = heads.build(spec, 512, 7001)
    generator = torch.Generator().manual_seed(0)
    embedding = torch.randn(64, 512, generator=generator)
    labels = torch.randint(7001, (64,), generator=generator)
    assert 8.3 < F.cross_entropy(head(embedding), labels).item() < 10.5
