"""The text of an expression: what parses, and what each mistake is told."""

import pytest

from kdcache.cache.spec import BadOption
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.plan.expression import ParsedTerm, parse_expression
from kdcache.losses.plan.plan import parse_losses


def test_every_form_of_a_term_parses() -> None:
    terms = parse_expression("cwd(tau=4, weight=3)+kd + afdcd@cityscapes(kd=0)+pkg.mod:Own(x=1e+5)+mgd()")
    assert terms == [
        ParsedTerm("cwd", None, {"tau": "4", "weight": "3"}),
        ParsedTerm("kd", None, {}),
        ParsedTerm("afdcd", "cityscapes", {"kd": "0"}),
        ParsedTerm("pkg.mod:Own", None, {"x": "1e+5"}),
        ParsedTerm("mgd", None, {}),
    ]


@pytest.mark.parametrize(
    ("text", "what", "fix"),
    [
        ("  ", "the loss expression is empty", "'none' trains without distillation"),
        ("kd++cwd", "a term is missing next to '+'", "write terms like"),
        ("kd+", "a term is missing next to '+'", "write terms like"),
        ("cwd(tau=4", "brackets do not pair up", "write terms like"),
        ("cwd)tau(", "brackets do not pair up", "write terms like"),
        ("3*cwd", "'3*cwd' is not a loss term", "3*cwd is cwd(weight=3)"),
        ("cwd(tau)", "'tau' in 'cwd(tau)' is not option=value", "for example cwd(weight=2)"),
        ("cwd(tau=1,tau=2)", "option 'tau' is given twice in 'cwd(tau=1,tau=2)'", "leave one of them out"),
        ("kd+kd", "'kd' is there twice", "one term with twice the weight: kd(weight=...)"),
        ("task+task(aux_weight=0)", "'task' is there twice", "one term with twice the weight"),
        ("none+kd", "'none' stands alone and takes no options", "leave 'none' out"),
        (
            "none(weight=2)",
            "'none' stands alone and takes no options",
            "scale the task loss with task(weight=...)",
        ),
        ("task(weight=0)", "every term has weight 0", "'none' trains on the task loss alone"),
        ("afcd", "unknown loss 'afcd'", "did you mean 'afdcd'? legal: afdcd, at, bckd, byot, "),
        ("afdcd@citiscapes", "unknown preset 'citiscapes'", "did you mean 'cityscapes'?"),
        (
            "cwd(taus=4)",
            "unknown option of 'cwd' 'taus'",
            "did you mean 'tau'? legal: decay, decay_to, divisor, norm, ",
        ),
        ("cwd(tau=hot)", "option 'tau' of 'cwd' takes a number above 0, not 'hot'", "for example cwd(tau=4)"),
        ("cwd(tau=0)", "option 'tau' of 'cwd' takes a number above 0, not '0'", "for example cwd(tau=4)"),
        (
            "kd(weight=-1)",
            "option 'weight' of 'kd' takes a number from 0, not '-1'",
            "for example kd(weight=1)",
        ),
        (
            "kd(weight=nan)",
            "option 'weight' of 'kd' takes a number from 0, not 'nan'",
            "for example kd(weight=1)",
        ),
        (
            "afdcd(groups=1.5)",
            "'groups' of 'afdcd' takes a whole number from 1, not '1.5'",
            "afdcd(groups=16)",
        ),
        (
            "afdcd(pool=some)",
            "takes 'auto' or a whole number from 0, not 'some'",
            "for example afdcd(pool=auto)",
        ),
        ("afdcd(patch=2x2x2)", "'patch' of 'afdcd' takes N or HxW from 1, not '2x2x2'", "afdcd(patch=4x4)"),
        ("afdcd(mask=False)", "takes 'random' or 'fixed', not 'False'", "for example afdcd(mask=random)"),
        ("mgd(mask_ratio=1.5)", "takes a number from 0 to 1, not '1.5'", "for example mgd(mask_ratio=0.75)"),
        ("no.such.module:Own", "there is no module 'no' to import", "set PYTHONPATH to its folder"),
        ("math:sqrt", "'math:sqrt' is not a loss class", "derive it from kdcache.losses.contract.LossTerm"),
        (
            "kdcache.losses.supervised.classification:Supervized",
            "unknown class of module 'kdcache.losses.supervised.classification' 'Supervized'",
            "did you mean 'Supervised'?",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place_and_a_way_out(text: str, what: str, fix: str) -> None:
    with pytest.raises(BadOption) as caught:
        parse_losses(text, preset=None, task=SEGMENTATION)
    assert what in caught.value.what
    assert caught.value.where == f"loss expression '{text}'"
    assert fix in caught.value.fix
