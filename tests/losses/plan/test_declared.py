"""What is read from the source of a loss is what its class says, and an expression is refused in the same
words from either."""

import pytest

from kdcache.cache.errors import BadOption
from kdcache.cache.tasks.table import TASKS, task_names
from kdcache.cache.trust import import_named
from kdcache.losses.options import option_specs
from kdcache.losses.plan.declared import declared_by
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.plan.table import LOSSES
from kdcache.losses.plan.written import check_expression

PATHS = (*LOSSES.values(), *(row.supervised for row in TASKS.values()))


@pytest.mark.parametrize("path", PATHS)
def test_the_source_of_a_loss_declares_what_its_class_has(path: str) -> None:
    loss_class = getattr(import_named(path), path.partition(":")[2])
    declared = declared_by(path)
    assert list(declared.options.items()) == list(option_specs(loss_class).items())
    assert dict(declared.aliases) == dict(loss_class.aliases)
    assert declared.companions == tuple(loss_class.companions)


def test_a_loss_that_inherits_its_options_has_them() -> None:
    assert list(declared_by(LOSSES["skds"]).options) == list(declared_by(LOSSES["skds-pair"]).options) != []


@pytest.mark.parametrize(
    "expression",
    [
        "afdc", "", "kd++cwd", "3*cwd", "cwd(tua=3)", "cwd(tau=-1)+kd", "kd@camvd", "cwd(tap=a,taps=b)",
        "kd+mgd(cwdd=0)", "crd(negatives=many)", "afdcd(kd=-1)", "kd(stop=-1)", "task(wieght=2)",
    ],
)  # fmt: skip
def test_a_wrong_expression_is_refused_early_in_the_words_of_the_run(expression: str) -> None:
    with pytest.raises(BadOption) as early:
        check_expression(expression)
    late = []
    for task in task_names():
        with pytest.raises(BadOption) as caught:
            parse_losses(expression, preset=None, task=task)
        late.append(str(caught.value))
    assert str(early.value) in late


@pytest.mark.parametrize(
    "expression",
    ["none", "kd+cwd", "task(aux_weight=0.2)", "mgd(cwd=0)", "cwd(tap=logits)", "afdcd@cityscapes(pool=auto)",
     "kd(T=2,stop=3,weight=0.5)", "no.such.module:Loss(x=1)", "skds(weight=2)", "fgd(temp=0.5)"],
)  # fmt: skip
def test_what_some_task_may_mean_passes(expression: str) -> None:
    check_expression(expression)


def test_every_default_passes_when_it_is_written_out() -> None:
    for name, path in LOSSES.items():
        for spec in declared_by(path).options.values():
            words = "x".join(map(str, spec.default)) if isinstance(spec.default, tuple) else spec.default
            check_expression(f"{name}({spec.name}={str(words).lower() if words in (True, False) else words})")
