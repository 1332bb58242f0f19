"""One method as `kdtrain methods NAME` tells it: what it weighs, brings along, and where it differs."""

from kdcache.losses.plan.catalogue import entry


def test_an_entry_tells_the_companions_of_each_task_that_has_some() -> None:
    assert entry("mgd").companions == ("segmentation: cwd 3",)
    assert entry("skds").companions == ("segmentation: skds-pixel 10, skds-holistic 0.1",)
    assert entry("kd").companions == ()


def test_an_entry_tells_the_weight_of_the_task_loss_where_the_method_publishes_another() -> None:
    assert set(entry("kd").weights) == {"segmentation: 1", "classification: 0.9, task loss 0.1"}
    assert entry("label-smoothing").weights == ("classification: 1, no task loss beside it",)
    assert entry("dkd").weights == ("classification: 1, warmup 20",)


def test_an_entry_tells_what_differs_per_task_and_per_dataset() -> None:
    assert entry("nkd").settings == (
        "cifar10: T 3, gamma 3.5",
        "cifar100: T 3, gamma 3.5",
        "imagenet: T 1, gamma 1.5",
    )
    assert "camvid: lambda_fd 8e-06, lambda_ctr 0.01, pool 0, fit cut" in entry("afdcd").settings
    assert "classification: taps stage3" in entry("pkd").settings
    assert entry("kd-topk").settings == ()
