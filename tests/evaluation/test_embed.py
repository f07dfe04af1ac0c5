"""What a trained run says must depend on the image alone: not on order, batch or place."""

import shutil

import numpy as np
import pytest
import torch
from PIL import ImageOps

from facekit.common.errors import DataError, RunError
from facekit.data.images import read_rgb
from facekit.data.layout import CourseData
from facekit.evaluation import embed, identification
from facekit.models import weights
from facekit.training.checkpoint import Checkpoints


@pytest.fixture(scope="module")
def run(trained) -> embed.TrainedRun:
    return embed.load_run(trained, "cpu")


@pytest.fixture(scope="module")
def embeddings(run, course) -> np.ndarray:
    return embed.embed(run, course.test.paths)


@pytest.fixture(scope="module")
def labels(run, course) -> np.ndarray:
    return embed.classify(run, course.test.paths)


def test_a_run_knows_what_it_was_trained_on(run, course, trained):
    assert run.folder == trained
    assert run.classes == course.classes
    assert run.data == course.root.resolve()
    assert run.term == "F23"
    assert run.preprocess.size == 32
    assert not run.net.training
    assert run.course_data().root == course.root.resolve()
    assert run.course_data(course.root).classes == course.classes


def test_a_run_that_was_moved_still_knows_its_data_and_gives_the_same(
    copy_of_run, course, embeddings
):
    moved = embed.load_run(copy_of_run, "cpu")
    assert moved.data == course.root.resolve()
    assert np.array_equal(embed.embed(moved, course.test.paths), embeddings)


def test_the_best_network_is_taken_and_not_the_last(copy_of_run):
    newest = Checkpoints(copy_of_run).newest()
    state = weights.load(newest)
    state["net"]["head.bias"].fill_(1000.0)
    weights.save(newest, state)
    assert embed.load_run(copy_of_run, "cpu").net.head.bias.abs().max() < 100


def test_the_network_is_as_it_was_trained_whatever_was_predicted(run, course, labels):
    trained = weights.load(run.folder / "best.pt")["net"]
    embed.classify(run, course.test.paths)
    assert weights.digest(run.net.state_dict()) == weights.digest(trained)
    assert all(parameter.requires_grad for parameter in run.net.parameters())


def test_there_is_a_label_and_an_embedding_for_each_image(embeddings, labels, course):
    assert labels.shape == (len(course.test),)
    assert labels.dtype == np.int64
    assert set(labels) <= set(range(6))
    assert embeddings.shape == (len(course.test), 128)
    assert embeddings.dtype == np.float32


def test_embeddings_are_of_length_one_and_tell_images_apart(embeddings):
    np.testing.assert_allclose(np.linalg.norm(embeddings, axis=1), 1, atol=1e-6)
    distance = np.linalg.norm(embeddings[:, None] - embeddings[None], axis=2)
    assert distance[~np.eye(len(embeddings), dtype=bool)].min() > 1e-4


def test_permuting_the_images_permutes_the_answers(run, course, embeddings, labels):
    order = np.random.default_rng(0).permutation(len(course.test))
    paths = [course.test.paths[i] for i in order]
    np.testing.assert_allclose(embed.embed(run, paths), embeddings[order], atol=1e-5)
    assert np.array_equal(embed.classify(run, paths), labels[order])


@pytest.mark.parametrize("size", [1, 5, 12])
def test_the_batch_size_does_not_matter(run, course, embeddings, labels, monkeypatch, size):
    monkeypatch.setattr(embed, "BATCH", size)
    np.testing.assert_allclose(embed.embed(run, course.test.paths), embeddings, atol=1e-5)
    assert np.array_equal(embed.classify(run, course.test.paths), labels)


def test_labels_are_the_arg_max_over_the_image_and_its_mirror(run, course, labels):
    transform = run.preprocess.transform()
    images = [transform(read_rgb(path)) for path in course.test]
    with torch.no_grad():
        logits = [run.net(torch.stack([one, one.flip(-1)])).sum(0) for one in images]
    assert [one.argmax().item() for one in logits] == labels.tolist()


def test_embeddings_are_the_mean_over_the_image_and_its_mirror(run, course, embeddings):
    transform = run.preprocess.transform()
    images = torch.stack([transform(read_rgb(path)) for path in course.test])
    with torch.no_grad():
        vectors = (run.net.embed(images) + run.net.embed(images.flip(-1))) / 2
    expected = vectors / vectors.norm(dim=1, keepdim=True)
    np.testing.assert_allclose(embeddings, expected.numpy(), atol=1e-5)
    as_they_are = embed.embed(run, course.test.paths, unit=False)
    np.testing.assert_allclose(as_they_are, vectors.numpy(), rtol=1e-4, atol=1e-5)


def test_where_distances_count_the_embedding_keeps_its_length(copy_of_run, course):
    state = weights.load(copy_of_run / "best.pt")
    state["spec"] = state["spec"] | {"head": "lgm"}
    del state["net"]["head.bias"]
    weights.save(copy_of_run / "best.pt", state)
    run = embed.load_run(copy_of_run, "cpu")
    assert run.measure == "euclidean"
    transform = run.preprocess.transform()
    images = torch.stack([transform(read_rgb(path)) for path in course.test])
    with torch.no_grad():
        vectors = (run.net.embed(images) + run.net.embed(images.flip(-1))) / 2
    np.testing.assert_allclose(embed.embed(run, course.test.paths), vectors.numpy(), atol=1e-4)


def test_class_means_are_those_of_the_first_images_of_each_class(run, course):
    every = embed.embed(run, course.train.paths)
    labels = np.array(course.train.labels)
    for images in (1, 4, 100):
        expected = [every[labels == c][:images].mean(0) for c in range(len(course.classes))]
        found = embed.class_means(run, course, images)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_mirrored_image_has_the_same_embedding(run, course, embeddings, tmp_path):
    mirrored = []
    for path in course.test:
        mirrored.append(tmp_path / f"{path.stem}.png")
        ImageOps.mirror(read_rgb(path)).save(mirrored[-1])
    np.testing.assert_allclose(embed.embed(run, mirrored), embeddings, atol=1e-5)


def test_prediction_draws_no_random_numbers(run, course):
    before = torch.get_rng_state()
    embed.classify(run, course.test.paths)
    assert torch.equal(torch.get_rng_state(), before)


def test_data_of_other_classes_is_refused(run, copy_of_course):
    data = CourseData(copy_of_course)
    for split in ("train", "dev"):
        shutil.rmtree(data.classification / split / data.classes[0])
    with pytest.raises(RunError, match=r"trained on 6 classes, .*has 5 of other names"):
        run.course_data(copy_of_course)


def test_data_that_is_gone_is_named(copy_of_run, copy_of_course):
    state = weights.load(copy_of_run / "best.pt")
    weights.save(copy_of_run / "best.pt", state | {"data": str(copy_of_course / "gone")})
    with pytest.raises(DataError, match="gone: no such folder"):
        embed.load_run(copy_of_run).course_data()


def test_a_project_that_was_moved_finds_its_data_again(
    copy_of_run, copy_of_course, tmp_path, monkeypatch, capsys
):
    state = weights.load(copy_of_run / "best.pt")
    project = tmp_path / "moved"
    (project / "runs").mkdir(parents=True)
    run = copy_of_run.rename(project / "runs" / "course")
    weights.save(run / "best.pt", state | {"data": str(tmp_path / "gone" / "data")})
    with pytest.raises(DataError, match=r"gone/data: no such folder.*--data FOLDER"):
        embed.load_run(run).course_data()
    data = copy_of_course.rename(project / "data")
    assert embed.load_run(run).course_data().root == data, "it lies beside runs/"
    data = data.rename(tmp_path / "elsewhere")
    monkeypatch.setenv("FACEKIT_HOME", str(tmp_path))
    data = data.rename(tmp_path / "data")
    capsys.readouterr()
    assert embed.load_run(run).course_data().root == data, "it is the workspace's"
    assert "gone/data is gone; using" in capsys.readouterr().out
    shutil.rmtree(next(CourseData(data).train.folder.iterdir()))
    with pytest.raises(DataError, match="no such folder"):
        embed.load_run(run).course_data()


def test_a_folder_without_a_run_says_what_to_do(tmp_path):
    with pytest.raises(RunError, match=r"best\.pt: no such checkpoint; train the run first"):
        embed.load_run(tmp_path)


def test_a_checkpoint_of_something_else_is_refused(tmp_path):
    weights.save(tmp_path / "best.pt", {"weight": torch.zeros(3)})
    with pytest.raises(RunError, match=r"best\.pt: no run"):
        embed.load_run(tmp_path)


def test_a_network_of_nan_is_not_believed(copy_of_run, course):
    state = weights.load(copy_of_run / "best.pt")
    state["net"]["head.weight"].fill_(float("nan"))
    state["net"]["stages.3.0.residual.2.bias"].fill_(float("nan"))
    weights.save(copy_of_run / "best.pt", state)
    broken = embed.load_run(copy_of_run, "cpu")
    with pytest.raises(RunError, match=f"{copy_of_run}: the network answers with NaN"):
        embed.classify(broken, course.test.paths)
    state["net"]["stages.3.0.residual.2.bias"].fill_(0.0)  # only the head is broken
    weights.save(copy_of_run / "best.pt", state)
    with pytest.raises(RunError, match=f"{copy_of_run}: the network answers with NaN"):
        embed.classify(embed.load_run(copy_of_run, "cpu"), course.test.paths)
    vectors = embed.embed(broken, course.test.paths)
    with pytest.raises(DataError, match="NaN"):
        identification.similarity(vectors, vectors)
