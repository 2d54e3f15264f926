import dataclasses

import pytest

import longdoc
from longdoc import settings as machinery
from longdoc.errors import SettingsError, UnknownNameError
from longdoc.experiments import explain
from longdoc.experiments.plan import make, read, read_yaml
from longdoc.experiments.settings import Settings
from longdoc.registry import Registry
from longdoc.settings import build, to_mapping, walk
from longdoc.sources import lookup


def test_settings_survive_a_round_trip():
    record = build(
        Settings, {"training": {"epochs": 3}, "adapter": {"target_modules": ["in_proj"]}}
    )
    assert build(Settings, to_mapping(record)) == record
    assert record.training.epochs == 3.0


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"trainin": {}}, "no setting named 'trainin'; did you mean training"),
        ({"training": {"epoch": 1}}, "no setting named 'training.epoch'; did you mean epochs"),
        (
            {"tokens": {"max_tokens": 128, "max-tokens": 256}},
            "'tokens.max_tokens' stands twice, with hyphens and with underscores",
        ),
        ({"training": 3}, "training is a group of settings, not 3"),
        ({"training": {"epochs": "many"}}, "training.epochs must be a number; got 'many'"),
        ({"training": {"batch_size": 1.5}}, "training.batch_size must be a whole number; got 1.5"),
        (
            {"training": {"batch_size": True}},
            "training.batch_size must be a whole number; got True",
        ),
        (
            {"training": {"schedule": "linaer"}},
            "training.schedule cannot be 'linaer'; did you mean linear",
        ),
        (
            {"data": {"mask_label_names": "no"}},
            "data.mask_label_names must be true or false; got 'no'",
        ),
        ({"training": {"seed": -1}}, "training.seed must be 0 or more; got -1"),
        ({"baseline": {"c": 0}}, "baseline.c must be above 0; got 0"),
        ({"baseline": {"name_weight": -1}}, "baseline.name_weight must be 0 or more, and finite"),
        (
            {"baseline": {"name_weight": float("inf")}},
            "baseline.name_weight must be a number that is finite; got inf",
        ),
        ({"thresholds": {"head": 3}}, "thresholds.head must be above thresholds.tail, 8; got 3"),
        ({"tokens": {"vocabulary": 9}}, "tokens.vocabulary must be at least 300"),
        ({"data": {"train_documents": "x"}}, "data.train_documents must be a whole number"),
    ],
)
def test_what_is_not_known_or_not_allowed_is_said(values, message):
    with pytest.raises(SettingsError, match=message):
        build(Settings, values)


def test_numbers_that_yaml_takes_for_text_are_numbers():
    assert build(Settings, {"training": {"learning_rate": "1e-3"}}).training.learning_rate == 1e-3


def test_every_setting_has_a_meaning_and_a_source_or_reason():
    for setting in explain.every_setting():
        assert setting.meaning, setting.name
        assert setting.origin is not None, setting.name
        assert setting.origin.because or (setting.origin.key and setting.origin.where), setting.name
        if setting.origin.key:
            assert lookup(setting.origin.key).title


def test_a_setting_without_source_would_be_noticed():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Bare:
        watts: int = 5

    with pytest.raises(IndexError):
        machinery.meanings(Bare)
    assert dataclasses.fields(Bare)[0].metadata.get("origin") is None


def test_each_setting_changes_the_name_of_the_run():
    for setting in walk(Settings):
        other = _another(setting)
        nested = other
        for part in reversed(setting.name.split(".")):
            nested = {part: nested}
        beside = {"data": {"folds": 4}} if setting.name == "data.fold" else {}
        plain = build(Settings, beside).digest()
        assert build(Settings, machinery.merge(beside, nested)).digest() != plain, setting.name


def _another(setting):
    default, kind = setting.default, str(setting.type)
    if isinstance(default, bool):
        return not default
    if isinstance(default, int | float):
        return default + 1 if isinstance(default, int) else default * 0.5 or 0.5
    if "Literal" in kind:
        import typing

        return next(a for a in typing.get_args(setting.type) if a != default)
    if "tuple" in kind:
        return ["x"]
    return 3 if "int" in kind or "float" in kind else "other"


def test_an_unknown_name_in_a_registry_says_the_nearest():
    colours = Registry[int]("colour")
    colours.add("red", 1)
    with pytest.raises(UnknownNameError, match="no colour named 'rad'; did you mean red"):
        colours["rad"]
    with pytest.raises(ValueError, match="already registered"):
        colours.add("red", 2)


def test_a_plan_has_baselines_first_then_seeds():
    plan = make({"seeds": [3, 4], "systems": [{"name": "m", "tokens": {"max_tokens": 64}}]})
    names = [(run.system, run.settings.training.seed) for run in plan.runs]
    assert names == [("majority", 3), ("tfidf-svm", 3), ("bert-mini-first-512", 3), ("m", 3),
                     ("bert-mini-first-512", 4), ("m", 4)]  # fmt: skip


def test_bert_on_512_tokens_is_not_added_twice():
    system = {"name": "b", "backbone": {"name": "bert-mini"}, "tokens": {"max_tokens": 512}}
    names = [run.system for run in make({"seeds": [0], "systems": [system]}).runs]
    assert names == ["majority", "tfidf-svm", "b"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"sistems": []}, "a plan has no 'sistems'; did you mean systems"),
        (
            {"systems": [{"name": "a"}, {"name": "a"}]},
            "systems must be of different names, baselines included; got 'a'",
        ),
        (
            {"systems": [{"backbon": {}}]},
            r"systems\[0\]: no setting named 'backbon'; did you mean backbone",
        ),
        (
            {"systems": [{"name": "tfidf-svm"}]},
            "of different names, baselines included; got 'tfidf-svm'",
        ),
        (
            {"systems": [{"thresholds": {"mode": "fixed"}}]},
            "thresholds.mode must be the same for all systems",
        ),
        ({"seeds": [-1]}, "seeds must be 0 or more"),
        ({"systems": {}}, "systems must be a list"),
        ({"seeds": []}, "seeds must be at least one number"),
        ({"seeds": [1, 1]}, "seeds must be different numbers"),
        ({"metric": "f1"}, "metric must be micro-f1 or macro-f1"),
        ({"name": "../evil"}, "name must be a plain folder name"),
        ({"systems": [], "baselines": False}, "systems must be at least one"),
    ],
)
def test_a_wrong_plan_is_refused_in_one_sentence(content, message):
    with pytest.raises(SettingsError, match=message):
        make(content)


def test_a_plan_that_is_no_yaml(tmp_path):
    (tmp_path / "p.yaml").write_text("a: [1,")
    with pytest.raises(SettingsError, match="not YAML"):
        read(tmp_path / "p.yaml")
    (tmp_path / "q.yaml").write_text("!!python/object/apply:os.system ['true']")
    with pytest.raises(SettingsError, match="not YAML"):
        read_yaml(tmp_path / "q.yaml")
    with pytest.raises(SettingsError, match="there is no settings file"):
        read(tmp_path / "none.yaml")
    with pytest.raises(SettingsError, match="is a folder, where a settings file is expected"):
        read(tmp_path)


def test_a_key_that_stands_twice_is_refused(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text("settings:\n  tokens: {max_tokens: 128}\n  tokens: {max_tokens: 256}\n")
    with pytest.raises(SettingsError, match=r"'tokens' stands twice.*line 3"):
        read_yaml(file)
    # Merged keys may be said otherwise: that is what merging is for.
    file.write_text("a: &a {x: 1, y: 1}\nb:\n  <<: *a\n  y: 2\n")
    assert read_yaml(file)["b"] == {"x": 1, "y": 2}


def test_a_system_that_says_a_setting_both_ways_is_refused():
    wanted = r"systems\[0\] \(a\): 'training.batch_size' stands twice"
    with pytest.raises(SettingsError, match=wanted):
        make({"systems": [{"training": {"batch-size": 1, "batch_size": 2}, "name": "a"}]})


def test_an_unknown_setting_to_explain_names_the_nearest():
    with pytest.raises(SettingsError, match=r"did you mean adapter\.rank"):
        explain.find("adapter.rnk")
    assert [s.name for s in explain.find("rank")] == ["adapter.rank"]
    assert len(explain.find("adapter")) == 7


@pytest.mark.parametrize("kept", [[], None, 3, {"tokens": 3}, {"tokens": None}])
def test_kept_settings_that_are_none_disagree(kept):
    assert machinery.disagreement(kept, Settings())


def test_groups_of_settings_may_be_given_as_plain_values():
    made = Settings(data={"dataset": "letters.jsonl"}, adapter={"rank": 4})
    assert made == build(Settings, {"data": {"dataset": "letters.jsonl"}, "adapter": {"rank": 4}})
    with pytest.raises(
        SettingsError, match=r"no setting named 'data\.datset'; did you mean dataset"
    ):
        Settings(data={"datset": "letters.jsonl"})


@pytest.mark.parametrize("wrong", ["plan.yaml", None, 3, ["data"]])
def test_what_are_no_settings_is_said_in_a_sentence(wrong, tmp_path):
    with pytest.raises(SettingsError, match="settings must be given as nested values"):
        longdoc.train(wrong, tmp_path)
    with pytest.raises(SettingsError, match="data must be given as nested values"):
        Settings(data=wrong)
