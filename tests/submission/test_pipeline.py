"""From a run to a decision and two files: what is kept, what counts, what is refused."""

import json
import re

import numpy as np
import pytest

from facekit import training
from facekit.common.errors import DataError
from facekit.data.layout import CourseData, read_identities
from facekit.evaluation import comparison, embed, identification, rules
from facekit.evaluation.embed import TrainedRun
from facekit.sources import more_people, set_up
from facekit.sources.profiles import Profile
from facekit.submission import pipeline
from facekit.training import recipe as recipes


@pytest.fixture(scope="module")
def run(trained) -> TrainedRun:
    return embed.load_run(trained, "cpu")


@pytest.fixture
def own(copy_of_run) -> TrainedRun:
    """A run whose folder a test may write into."""
    return embed.load_run(copy_of_run, "cpu")


def answers(run: TrainedRun) -> list[str]:
    return read_identities(run.folder / "verification.csv")


# --- the dev probes


def test_dev_probes_are_compared_with_the_gallery(run, course):
    dev = pipeline.verify_dev(run, course)
    probes = embed.embed(run, course.unknown_dev.paths)
    gallery = embed.embed(run, course.known.paths)
    np.testing.assert_array_equal(dev.similarity, identification.similarity(probes, gallery))
    np.testing.assert_array_equal(dev.scores, dev.similarity)
    assert dev.identities == list(course.known.labels)
    named = ["n000000" if t < 0 else dev.identities[t] for t in dev.truth]
    assert named == list(course.unknown_dev.labels)
    assert dev.threshold == identification.choose_threshold(dev.similarity, dev.truth)
    assert dev.tuning().chosen == dev.threshold


@pytest.mark.parametrize("name", rules.NAMES)
def test_every_rule_can_judge_the_dev_probes(run, course, name):
    dev = pipeline.verify_dev(run, course, name)
    assert (dev.evidence.cohort is not None) == (name in rules.WITH_COHORT)
    rule = rules.make(name, dev.evidence, dev.truth)
    np.testing.assert_array_equal(dev.scores, rule(dev.evidence))
    assert (
        identification.accuracy(dev.scores, dev.truth, dev.threshold.value)
        == dev.threshold.accuracy
    )


def test_rules_are_judged_beside_each_other(run, course):
    dev = pipeline.verify_dev(run, course, "as_norm")
    found = dev.judged("threshold", "gap", "as_norm", "threshold")
    assert list(found) == ["threshold", "gap", "as_norm"]
    np.testing.assert_array_equal(found["threshold"], dev.similarity)
    np.testing.assert_array_equal(found["as_norm"], dev.scores)
    np.testing.assert_array_equal(found["gap"], rules.RULES["gap"](dev.evidence))


# --- the decision


def test_a_decision_is_kept_beside_the_network(own):
    assert pipeline.kept_decision(own.folder) is None
    pipeline.keep_decision(own.folder, "as_norm", 0.1 + 0.2)
    assert pipeline.kept_decision(own.folder) == ("as_norm", 0.1 + 0.2)


def test_the_decision_of_another_network_does_not_count(own):
    path = pipeline.keep_decision(own.folder, "gap", 0.5)
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"network": "0" * 64}))
    assert pipeline.kept_decision(own.folder) is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b'{"rule": "gap"}', b"\xff", b'{"rule": "x", "threshold": 1, "network": ""}',
     b'{"rule": "gap", "threshold": NaN, "network": ""}',
     b'{"rule": "gap", "threshold": "high", "network": ""}'],
)  # fmt: skip
def test_a_damaged_decision_is_named(own, content, refused):
    (own.folder / pipeline.DECISION).write_bytes(content)
    said = refused("submit", own.folder)
    assert f"{own.folder / pipeline.DECISION}: damaged; delete it" in said


@pytest.mark.parametrize(("rule", "threshold"), [("best", 0.5), ("gap", float("nan"))])
def test_what_is_no_decision_is_not_kept(own, rule, threshold):
    with pytest.raises(DataError):
        pipeline.keep_decision(own.folder, rule, threshold)
    assert not (own.folder / pipeline.DECISION).exists()


def test_without_a_word_the_plain_threshold_decides(own, course):
    dev, decision = pipeline.decide(own, course)
    assert decision == ("threshold", dev.threshold.value)


def test_what_was_kept_counts_unless_something_else_is_asked_for(own, course):
    pipeline.keep_decision(own.folder, "gap", 0.125)
    assert pipeline.decide(own, course)[1] == ("gap", 0.125)
    assert pipeline.decide(own, course, "gap")[1] == ("gap", 0.125)
    assert pipeline.decide(own, course, threshold=0.25)[1] == ("gap", 0.25)
    dev, other = pipeline.decide(own, course, "threshold")
    assert other == ("threshold", dev.threshold.value)


# --- the files


def test_the_files_follow_the_decision(own, course):
    pipeline.write_submissions(own, course, threshold=2.0)
    assert set(answers(own)) == {"n000000"}
    pipeline.keep_decision(own.folder, "threshold", -2.0)
    pipeline.write_submissions(own, course)
    assert "n000000" not in answers(own)
    pipeline.write_submissions(own, course, rule="threshold", threshold=2.0)
    assert set(answers(own)) == {"n000000"}


@pytest.mark.parametrize("name", ["threshold", "as_norm", "logistic"])
def test_test_probes_are_judged_by_the_rule_of_the_dev_probes(own, course, name):
    pipeline.write_submissions(own, course, rule=name)
    cohort = embed.class_means(own, course)
    dev = pipeline.verify_dev(own, course, name, cohort)
    probes = embed.embed(own, course.unknown_test.paths)
    scores = dev.judge(rules.Evidence(probes, dev.evidence.gallery, cohort=cohort))
    assert answers(own) == identification.identify(scores, dev.identities, dev.threshold.value)


def test_a_threshold_of_nan_is_refused_and_nothing_is_written(own, course, refused, unchanged):
    with unchanged(own.folder):
        assert "NaN" in refused("submit", own.folder, "--threshold", "nan")
        assert "no rule 'best'" in refused("submit", own.folder, "--rule", "best")


# --- the command line


def test_evaluate_tells_both_errors_and_what_to_expect(run, course, run_cli):
    lines = run_cli("evaluate", run.folder).stdout.splitlines()
    dev = pipeline.verify_dev(run, course)
    value, accuracy, _ = dev.threshold
    found, named = identification.dir_fpir(dev.similarity, dev.truth, value)
    assert lines[1].startswith(f"verification {accuracy:.2%} -> ")
    assert lines[2] == (
        f"rule threshold, threshold {value:.3f}: DIR {found:.1%}, FPIR {named:.1%} on 9 probes"
    )
    assert lines[3].endswith(f"on new probes expect {dev.tuning().expected:.1%}")


@pytest.fixture(scope="module")
def many(tmp_path_factory) -> TrainedRun:
    """A run on a course with strangers enough to compare rules by."""
    profile = Profile("many", 6, 6, 1, 1, known=9, unknown_dev=45, unknown_test=9, pixels=32)
    folder = tmp_path_factory.mktemp("many")
    data = set_up("synthetic", profile, folder / "data", progress=False)
    recipe = recipes.load("smoke", ["epochs=1", "image_size=32", "precision=float32"])
    training.fit(recipe, data, folder / "run", device="cpu", progress=False)
    return embed.load_run(folder / "run", "cpu")


def test_rules_are_compared_and_nothing_is_written(many, run_cli, unchanged):
    with unchanged(many.folder):
        outcome = run_cli("rules", many.folder, "--fpir", 0.2)
    assert outcome.status == 0, outcome.stderr
    data = many.course_data()
    dev = pipeline.verify_dev(many, data, cohort=embed.class_means(many, data))
    found = dev.compare_rules(0.2)
    assert found.reason in outcome.stdout
    for name, row in found.table.iterrows():
        line = next(line for line in outcome.stdout.splitlines() if line.startswith(name))
        for column in comparison.COLUMNS:
            assert f"{100 * row[column]:.1f}" in line
        low, high = 100 * row["auc low"], 100 * row["auc high"]
        assert f"({low:.1f} ... {high:.1f})" in line


def test_the_recommended_rule_is_kept_on_request(many, run_cli):
    outcome = run_cli("rules", many.folder, "--fpir", 0.2, "--keep")
    decision = pipeline.kept_decision(many.folder)
    assert str(many.folder / "decision.json") in outcome.stdout
    dev = pipeline.verify_dev(many, many.course_data(), decision.rule)
    assert decision.threshold == dev.threshold.value
    (many.folder / "decision.json").unlink()


def test_an_fpir_that_cannot_be_measured_is_told(many, run_cli):
    assert "cannot be measured on 5 probes without a match" in run_cli("rules", many.folder).stdout


def test_one_stranger_is_too_few_to_compare_rules(own, refused):
    assert "two people of each kind" in refused("rules", own.folder)


# --- more probes of other people


def test_more_people_are_others_of_the_same_kind(course, run, monkeypatch, tmp_path):
    monkeypatch.setenv("FACEKIT_CACHE", str(tmp_path))
    more = more_people(course, progress=False)
    assert len(more.known) == len(course.known)
    assert len(more.unknown_dev) == 10 * len(course.unknown_dev)
    content = {path.read_bytes() for path in (*course.known.paths, *course.unknown_dev.paths)}
    assert not content & {path.read_bytes() for path in more.known.paths}
    share = [np.mean(np.array(c.unknown_dev.labels) == "n000000") for c in (course, more)]
    assert share[0] == pytest.approx(share[1])
    again = more_people(course, progress=False)
    assert again.root == more.root
    assert pipeline.verify_dev(run, more).similarity.shape == (90, 9)
    assert len(more_people(course, most=20, progress=False).unknown_dev) == 20


def test_of_photographs_there_are_no_more(copy_of_course):
    path = copy_of_course / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(json.dumps(manifest | {"source": "folder"}))
    assert more_people(CourseData(copy_of_course)) is None
    path.unlink()
    assert more_people(CourseData(copy_of_course)) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_damaged_manifest_is_named(own, copy_of_course, content, refused):
    (copy_of_course / "manifest.json").write_bytes(content)
    said = refused("evaluate", own.folder, "--data", copy_of_course)
    assert re.search(r"manifest\.json: damaged; set the data up anew", said)
