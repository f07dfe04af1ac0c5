"""Training, judging and rendering on a pretend GPU: what a real one would refuse or wait for.

A step hands a few hundred operations to the GPU and must not stop for any of them. Where it does
stop is listed here with the reason, and how many operations there are has an upper bound.
"""

import ast
import copy
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pretend_gpu import BLOCKING, COPY, GPU, LAUNCH, OTHER_LAYOUT, UNPINNED, WAIT, Log, pretending

import facekit
from facekit import faces
from facekit.data import transforms_gpu
from facekit.data.layout import CourseData
from facekit.data.loader import Loader
from facekit.data.mixing import mix
from facekit.data.pixels import STORAGES, CacheSettings
from facekit.data.transform_params import sample_params
from facekit.data.transforms import NOTHING, Augment, Preprocess
from facekit.evaluation import inference
from facekit.faces import rendering
from facekit.models.blocks import BLOCKS
from facekit.models.heads import HEADS
from facekit.models.zoo import NETWORKS
from facekit.training import loop
from facekit.training import recipe as recipes
from facekit.training import run as runs
from facekit.training.callbacks import Callback, Callbacks, Guards
from facekit.training.margin_stage import MarginStage
from facekit.training.recipe import Recipe
from facekit.training.run import Run

CPU = torch.device("cpu")
CUDA = torch.device("cuda")  # without a number, as `fit` chooses it
PACKAGE = Path(facekit.__file__).parent

# Where an epoch of two steps stops for the GPU, and how often.
EPOCH_WAITS = {"callbacks.py:look_at_loss": 2}  # after the first and the last step, else every 50
EPOCH_COPIES = {"run.py:_on_device": 1}  # the sums that the epoch begins with
JUDGING_WAITS = {"inference.py:evaluate": 1}  # for three numbers, however many batches
BLUR = {"transforms_gpu.py:_blur"}  # each colour of each image is a map of its own there

# Most operations of a step with its augmented batch, and of judging a batch, in float32. A few
# more than were counted; whoever needs more of them for good raises the number.
MOST_LAUNCHES = {
    "tiny": (175, 195),
    "small": (175, 195),
    "medium": (330, 375),
    "large": (490, 615),
    "starter": (125, 105),
    "resnet18": (245, 310),
    "resnet34": (375, 540),
    "resnet50": (490, 760),
    "mobilenetv2": (485, 705),
    "convnext": (490, 310),
    "lean-convnext": (440, 445),
    "row01": (335, 410),
    "row02": (365, 510),
    "row03": (310, 325),
    "row04": (435, 540),
    **dict.fromkeys([f"row{number:02}" for number in range(5, 13)], (540, 710)),
}
MOST_OF_A_BATCH = {  # by strength of augmentation
    "none": 12,
    "usual": 45,
    "every change": 75,
    "mixup": 70,
    "cutmix": 70,
    "both": 70,
}
ALIKE = [f"row{number:02}" for number in range(6, 13)]  # as row05
SLOW = {"resnet18", "resnet34", "resnet50", "row01", "row02", "row04", *ALIKE}
NAMES = [pytest.param(n, marks=pytest.mark.long) if n in SLOW else n for n in NETWORKS]

EVERY_BLOCK = {
    "stem": {"channels": 16, "kernel": 4, "stride": 4, "norm": "layer"},
    "embedding": 32,
    "dropout": 0.1,
    "drop_path": 0.1,
    "stages": [
        {"block": "conv", "channels": 16, "depth": 1, "stride": 2, "groups": 16},
        {"block": "residual", "channels": 16, "depth": 1, "se": 4},
        {"block": "bottleneck", "channels": 16, "depth": 1, "se": 4},
        {"block": "inverted", "channels": 32, "depth": 1, "stride": 2, "published": True, "se": 4},
        {"block": "fused", "channels": 32, "depth": 1, "se": 4},
        {"block": "convnext", "channels": 32, "depth": 1},
        {"block": "convnext_dense", "channels": 32, "depth": 1},
    ],
}

STRENGTHS = {
    "none": NOTHING,
    "usual": Augment(),
    "every change": Augment(shift=0.1, shear=5, random_steps=2, random_strength=1, blur=0.5),
    "mixup": Augment(mixup=0.5),
    "cutmix": Augment(cutmix=0.5),
    "both": Augment(mixup=0.5, cutmix=0.5),
}


@pytest.fixture
def gpu() -> Iterator[Log]:
    with pretending() as log:
        yield log


def small(*changes: str) -> Recipe:
    """Epochs of two steps."""
    settings = ["epochs=2", "batch_size=18", "image_size=32", "precision=float32", "compile=no"]
    return recipes.load("smoke", [*settings, *changes])


def prepared(recipe: Recipe, course: CourseData, device: torch.device = CUDA) -> Run:
    run = Run(recipe, course, Path("nowhere"), device)
    run.prepare()
    run.preprocess.scale(run.loader.device)  # copied there once for all batches
    return run


class LastStep(Callback):
    """Keeps what the epoch's last step and its batch asked of the GPU."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.before: dict[str, int] = {}
        self.asked: dict[str, int] = {}

    def after_step(self, run: Run) -> None:
        now = {kind: self.log.count(kind) for kind in (LAUNCH, COPY)}
        self.asked = {kind: now[kind] - self.before.get(kind, 0) for kind in now}
        self.before = now


def check_run(run: Run, log: Log) -> tuple[dict[str, int], dict[str, int]]:
    """Train an epoch and judge it without a wait or a copy that is not listed.

    What the last step asked, and what the judging of a batch did.
    """
    assert run.steps == 2
    log.clear()
    last = LastStep(log)
    loop.train_epoch(run, Callbacks([last, Guards(run), MarginStage()]))
    check_log(log, EPOCH_WAITS, EPOCH_COPIES)
    log.clear()
    judge(run)
    check_log(log, JUDGING_WAITS, {})
    return last.asked, {kind: log.count(kind) for kind in (LAUNCH, COPY)}


def check_log(log: Log, waits: dict[str, int], copies: dict[str, int]) -> None:
    assert Counter(log.places(WAIT)) <= Counter(waits)
    assert Counter(log.places(BLOCKING)) <= Counter(copies)
    assert log.places(UNPINNED) == {}
    assert set(log.places(OTHER_LAYOUT)) <= BLUR


def judge(run: Run) -> tuple[float, float]:
    dtype = run.precision.value
    return inference.evaluate(run.eval_forward(), run.dev_batches(), dtype, run.world.all_reduce)


# ------------------------------------------------------------------ training and judging


@pytest.mark.parametrize("name", NAMES)
def test_every_network(name, gpu, course, monkeypatch):
    for check in ("check_size", "check_limit"):  # some are over the homework's limit
        monkeypatch.setattr(runs, check, lambda *_: None)
    stride = NETWORKS[name].stride
    run = prepared(small(f"network={name}", f"image_size={max(32, stride)}"), course)
    step, judging = check_run(run, gpu)
    most_step, most_judging = MOST_LAUNCHES[name]
    assert step[LAUNCH] <= most_step
    assert judging[LAUNCH] <= most_judging
    assert step[COPY] == 3  # labels, places of the images, and what is drawn for them
    assert judging[COPY] == 2


@pytest.mark.parametrize("precision", ["float32", "float16", "bfloat16"])
def test_every_block_in_every_precision(precision, gpu, course):
    assert {stage["block"] for stage in EVERY_BLOCK["stages"]} == set(BLOCKS)
    recipe = replace(small(f"precision={precision}"), network=EVERY_BLOCK)
    check_run(prepared(recipe, course), gpu)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_every_head(head, precision, gpu, course):
    check_run(prepared(small(f"head={head}", f"precision={precision}"), course), gpu)


@pytest.mark.parametrize(
    "loss",
    [
        '"center"',
        '"contrastive"',
        '{name = "triplet", mining = "batch_hard"}',
        '{name = "triplet", mining = "semi_hard"}',
    ],
)
def test_every_loss(loss, gpu, course):
    recipe = small(f"auxiliary_loss={loss}", "images_per_class=3", "precision=bfloat16")
    check_run(prepared(recipe, course), gpu)


@pytest.mark.parametrize(
    "settings",
    [
        ["grad_clip=1", "ema_decay=0.9", "precision=float16"],
        ["optimizer=sgd", "micro_batches=3"],
    ],
)
def test_what_else_a_recipe_may_ask(settings, gpu, course):
    check_run(prepared(small(*settings), course), gpu)


def test_the_running_average_takes_a_few_operations_however_many_buffers(gpu, course):
    plain, _ = check_run(prepared(small(), course), gpu)
    averaged, _ = check_run(prepared(small("ema_decay=0.9"), course), gpu)
    assert averaged[LAUNCH] - plain[LAUNCH] <= 4


def test_a_whole_training_with_a_margin_stage_waits_where_it_is_listed(gpu, course):
    recipe = small('margin_head="arcface"', "margin_epochs=1")
    run = prepared(recipe, course)
    gpu.clear()
    loop.train(run, Callbacks([Guards(run), MarginStage()]))
    waits = {"callbacks.py:look_at_loss": 4, "inference.py:evaluate": 2, "heads.py:class_means": 2}
    assert Counter(gpu.places(WAIT)) <= Counter(waits)
    assert len(run.progress.rows) == 2


def test_it_trains_as_the_processor_does(gpu, course):
    there = prepared(small(), course)
    here = prepared(small(), course, CPU)
    here.loader = there.loader  # the same changes: OpenCV's differ by a level
    losses = []
    for run in (there, here):
        for batch, size in run.batches():
            images = batch.images.to(run.device)
            batch = batch._replace(images=images, labels=batch.labels.to(run.device))
            losses.append(loop.train_step(run, batch, size).tolist())
        losses.append(judge(run))
    assert losses[:3] == [pytest.approx(loss, rel=1e-6) for loss in losses[3:]]


# ------------------------------------------------------------------ batches


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_batch_of_every_strength(strength, gpu, course):
    loader = loader_of(course, STRENGTHS[strength])
    batch = next(loader.batches([keys(16)]))  # what every batch needs is there
    gpu.clear()
    batch = next(loader.batches([keys(16)]))
    check_log(gpu, {}, {})
    mixed = batch.lam is not None
    assert gpu.count(COPY) == 3 + mixed  # what is drawn once more for the mixture
    assert gpu.count(LAUNCH) <= MOST_OF_A_BATCH[strength]
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    for part in batch:
        assert part is None or part.device == GPU


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("storage", STORAGES)
def test_every_storage(storage, workers, gpu, course):
    loader = loader_of(course, Augment(), CacheSettings(storage=storage, progress=False), workers)
    usual = loader_of(course, Augment())
    expected = next(usual.batches([keys(16)])).images.tolist()
    gpu.clear()
    (batch,) = loader.batches([keys(16)])
    check_log(gpu, {}, {})
    assert gpu.count(COPY) == 3
    assert batch.images.tolist() == expected


def test_the_pixels_are_those_of_tensor_operations_on_the_processor(gpu, course):
    augment = Augment(random_steps=2, blur=0.5, mixup=0.5, cutmix=0.5)
    loader = loader_of(course, augment)
    batch = next(loader.batches([keys(16)]))
    stored = loader.pixels.source.images[:16].cpu()
    params = sample_params(augment, loader.preprocess, loader.side, 0, keys(16))
    images = transforms_gpu.apply(stored, params, loader.preprocess)
    expected = mix(images, torch.tensor(course.train.labels[:16]), params)
    for found, wanted in zip(batch, expected, strict=True):
        assert torch.equal(found.cpu(), wanted)


def test_what_is_drawn_goes_to_the_gpu_in_one_copy(gpu):
    params = sample_params(Augment(mixup=1), Preprocess(32), 36, 0, keys(5))
    there = params.to(GPU)
    assert gpu.places(COPY) == {"transform_params.py:to": 1}
    for found, wanted in zip(there, params, strict=True):
        assert found.device == GPU
        assert torch.equal(found.cpu(), wanted)


def test_constants_are_copied_once(gpu):
    preprocess = Preprocess(32, mean=[0.1, 0.2, 0.3])  # a list, as JSON gives it
    for _ in range(3):
        preprocess.scale(GPU)
    assert gpu.places(BLOCKING) == {"transforms.py:_constant": 2}
    assert gpu.count(UNPINNED) == 0


def keys(count: int) -> list[tuple[int, int]]:
    return [(3, index) for index in range(count)]


def loader_of(
    course: CourseData,
    augment: Augment,
    cache: CacheSettings | None = None,
    workers: int | None = None,
) -> Loader:
    cache = cache or CacheSettings(progress=False)
    split = course.train
    preprocess = Preprocess(32)
    preprocess.scale(GPU)
    return Loader(
        split.paths, split.labels, preprocess, GPU, augment=augment, workers=workers, cache=cache
    )


# ------------------------------------------------------------------ judging alone


def test_judging_waits_once_however_many_batches(gpu, course):
    run = prepared(small("batch_size=2"), course)
    gpu.clear()
    loss, accuracy = judge(run)
    assert len(course.dev) > 2 * 2 * run.recipe.batch_size
    check_log(gpu, JUDGING_WAITS, {})
    here = prepared(small("batch_size=2"), course, CPU)
    assert judge(here) == (pytest.approx(loss, rel=1e-6), accuracy)


def test_the_sums_of_a_process_without_dev_images_are_on_its_device(gpu, course):
    run = prepared(small(), course)
    others = torch.tensor([6.0, 1.0, 4.0], dtype=torch.float64).to(GPU)
    judge = run.eval_forward()
    loss, accuracy = inference.evaluate(judge, [], all_reduce=lambda mine: mine + others)
    assert (loss, accuracy) == (1.5, 0.25)


# ------------------------------------------------------------------ rendering


# Where a call and each of its batches stop for the GPU, and how often.
CALL_WAITS = {"rendering.py:check_device": 1}
BATCH_WAITS = {"camera.py:splat": 2, "camera.py:resolve": 1, "film.py:blur": 1}
BATCH_COPIES = {"surface.py:move": 2}  # all that is known of the images: numbers and choices
MOST_OF_A_RENDERING = {3: 5_350, 24: 6_400}  # operations, by images; with 24 every kind is worn


def test_rendered_faces_are_those_of_the_processor(gpu):
    person = [0, 1, 5]
    shot = [2, 0, 7]
    for function in (faces.render, faces.parts, faces.landmarks):
        expected = function(person, shot, size=64)
        found = function(person, shot, size=64, device="cuda:0")
        assert found.device == GPU
        assert (found.cpu() - expected.float()).abs().max() <= 1
    drawn = faces.parameters(person, shot, device="cuda:0")
    for found, expected in zip(drawn, faces.parameters(person, shot), strict=True):
        assert found.keys() == expected.keys()
        for name, value in found.items():
            assert value.device == GPU
            assert torch.equal(value.cpu(), expected[name])


@pytest.mark.parametrize("count", MOST_OF_A_RENDERING)
def test_rendering_takes_as_many_operations_however_many_images(count, gpu):
    faces.render(range(count), range(count), 64, "cuda:0")  # constants are there
    gpu.clear()
    faces.render(range(count), range(count), 64, "cuda:0")
    assert gpu.places(WAIT) == CALL_WAITS | BATCH_WAITS
    assert gpu.places(BLOCKING) == BATCH_COPIES
    assert gpu.count(UNPINNED) == 0
    assert gpu.count(LAUNCH) <= MOST_OF_A_RENDERING[count]


def test_each_batch_of_a_rendering_stops_as_often(gpu, monkeypatch):
    monkeypatch.setitem(rendering.PIXELS_AT_ONCE, "cuda", 2 * 112**2)
    faces.render(range(6), range(6), 64, "cuda:0")
    gpu.clear()
    faces.render(range(6), range(6), 64, "cuda:0")
    three = {place: 3 * times for place, times in BATCH_WAITS.items()}
    assert Counter(gpu.places(WAIT)) <= Counter(CALL_WAITS | three)
    assert gpu.places(BLOCKING) == {"surface.py:move": 6}


# ------------------------------------------------------------------ the source

HOT = """training/loop.py evaluation/inference.py data/loader.py data/mixing.py data/transforms.py
data/transforms_gpu.py data/transform_params.py models/losses.py models/heads.py models/net.py
models/blocks.py training/optim.py""".split()
ALLOWED = {
    "evaluation/inference.py:evaluate tolist",  # once for all batches
    "data/transforms.py:_constant tensor",  # once for a device
    "models/heads.py:class_means item",  # of an error
}


def waits_in(tree: ast.Module) -> Iterator[str]:
    """Function and name of each call that makes the processor wait for a GPU."""
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef):
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            name = node.func.attr
            to_device = any(keyword.arg == "device" for keyword in node.keywords)
            if name in ("item", "tolist", "cpu", "nonzero", "synchronize"):
                yield f"{function.name} {name}"
            if name in ("tensor", "as_tensor") and to_device:
                yield f"{function.name} {name}"


@pytest.mark.parametrize("name", HOT)
def test_the_source_of_a_step_has_no_call_that_waits(name):
    found = waits_in(ast.parse((PACKAGE / name).read_text()))
    assert {f"{name}:{call}" for call in found} <= ALLOWED


def test_every_allowed_place_is_there():
    found = set()
    for name in HOT:
        calls = waits_in(ast.parse((PACKAGE / name).read_text()))
        found |= {f"{name}:{call}" for call in calls}
    assert found == ALLOWED


# ------------------------------------------------------------------ the pretend GPU itself

WAITS: dict[str, Callable] = {
    "item": lambda x: x.sum().item(),
    "a number": lambda x: float(x[0]),
    "a branch": lambda x: bool((x > 0).all()),
    "tolist": lambda x: x.tolist(),
    "to the processor": lambda x: x.cpu(),
    "copied to the processor": lambda x: torch.zeros(3).copy_(x),
    "nonzero": lambda x: x.nonzero(),
    "a boolean index": lambda x: x[x > 1],
    "unique": lambda x: x.unique(),
    "synchronize": lambda x: torch.cuda.synchronize(),
}
BLOCKING_COPIES: dict[str, Callable] = {
    "a constant": lambda x: torch.tensor([1.0, 2.0], device=GPU),
    "as_tensor": lambda x: torch.as_tensor([1.0, 2.0], device="cuda"),
    "to": lambda x: torch.ones(3).to(GPU),
    "to a tensor's": lambda x: torch.ones(3).to(x),
    "copy_": lambda x: x.copy_(torch.ones(3)),
    "an index": lambda x: x[torch.tensor([0, 1])],
}


def on_gpu() -> torch.Tensor:
    return torch.arange(3.0, device=GPU)


@pytest.mark.parametrize("name", WAITS)
def test_it_notices_a_wait(name, gpu):
    WAITS[name](on_gpu())
    assert gpu.count(WAIT) == 1
    assert gpu.count(BLOCKING) == 0


@pytest.mark.parametrize("name", BLOCKING_COPIES)
def test_it_notices_a_copy_that_blocks(name, gpu):
    BLOCKING_COPIES[name](on_gpu())
    assert gpu.count(BLOCKING) == 1
    assert gpu.count(WAIT) == 0


def test_it_tells_pinned_memory_from_other(gpu):
    plain = torch.ones(3)
    pinned = torch.empty(4, pin_memory=True)
    for tensor in (plain, pinned[:2], plain.pin_memory()):
        assert tensor.to(GPU, non_blocking=True).device == GPU
    assert (gpu.count(UNPINNED), gpu.count(COPY), gpu.count(BLOCKING)) == (1, 2, 0)


def test_it_refuses_tensors_of_both_sides(gpu):
    with pytest.raises(RuntimeError, match="one device: add"):
        on_gpu() + torch.ones(3)
    assert (on_gpu() + torch.tensor(1.0)).cpu().equal(torch.tensor([1.0, 2.0, 3.0]))  # as CUDA does


def test_it_counts_operations_and_no_views(gpu):
    x = on_gpu()
    gpu.clear()
    x.view(3, 1).expand(3, 4).t()[0]
    torch.empty(3, device=GPU)
    assert gpu.count(LAUNCH) == 0
    assert (x * 2 + 1).device == GPU
    assert gpu.count(LAUNCH) == 2


def test_it_notices_another_layout(gpu):
    conv = torch.nn.Conv2d(4, 4, 3).to(GPU)
    images = torch.ones(2, 4, 8, 8, device=GPU)
    conv(images.contiguous(memory_format=torch.channels_last))
    assert gpu.count(OTHER_LAYOUT) == 0
    conv(images)
    assert gpu.count(OTHER_LAYOUT) > 0


def test_its_modules_can_be_copied_and_learn(gpu):
    module = torch.nn.Linear(3, 2).to(GPU)
    twin = copy.deepcopy(module)
    twin(on_gpu()).sum().backward()
    assert twin.weight.grad.device == GPU
    assert module.weight.grad is None
    assert isinstance(twin.weight, torch.nn.Parameter)
