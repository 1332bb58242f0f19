"""Critics: what they minimise, when and by how much they move, in which order they judge, over which ranks.

A user would lose the published method: a critic that learns too fast, too slowly or in another order trains
a student all the same, only not the one of the paper.
"""

STEP = "tests/trainer/steps/test_rivals.py"
PUBLISHED = "tests/trainer/steps/test_published_critics.py"
HOLISTIC = "tests/losses/dense/test_skds_holistic.py"
CRITIC = "tests/losses/dense/test_critic.py"
IFVD = "tests/losses/dense/test_ifvd.py"
MEAN = f"{STEP}::test_the_critic_moves_once_per_step_by_the_mean_over_its_micro_batches"
OVER_RANKS = f"{STEP}::test_the_mean_over_ranks_counts_a_missing_gradient_as_zero_and_keeps_every_place"
TWO_RANKS = f"{STEP}::test_two_ranks_move_the_critic_by_the_mean_over_the_micro_batches_of_both"
ORDER = f"{PUBLISHED}::test_the_critic_judges_the_maps_in_the_order_of_the_published_code"
RATE = f"{PUBLISHED}::test_adams_critic_moves_by_the_published_rate_in_each_step"
MOMENTUM = f"{PUBLISHED}::test_skds_critic_moves_by_momentum_and_decay_at_a_rate_that_falls"
SPANS = f"{PUBLISHED}::test_only_cirkds_critic_normalises_over_the_ranks_of_a_synchronised_run"
PLANE = f"{HOLISTIC}::test_the_two_losses_of_a_critic_that_is_a_plane_are_those_written_down"

MUTANTS = [
    (
        "the critic learns from the sum over micro batches",
        "Rivals.learn",
        "rival_loss(inputs) * share",
        "rival_loss(inputs)",
        MEAN,
    ),
    (
        "each micro batch counts whole",
        "Stepper._move_rivals",
        "1 / self.config.accumulate",
        "1",
        MEAN,
    ),
    (
        "the critic moves once per micro batch",
        "Stepper._move_rivals",
        "if self.accelerator.sync_gradients:",
        "if True:",
        MEAN,
    ),
    (
        "the critic's gradients pile up over the steps",
        "Rivals.step",
        "player.optimizer.zero_grad()",
        "pass",
        MEAN,
    ),
    ("the critic never moves", "Rivals.step", "player.optimizer.step()", "pass", MEAN),
    (
        "each rank moves a critic of its own",
        "Rivals.step",
        "_average_gradients(player.weights, accelerator)",
        "pass",
        TWO_RANKS,
    ),
    (
        "the critic's gradients are summed over ranks",
        "_average_gradients",
        'reduction="mean"',
        'reduction="sum"',
        OVER_RANKS,
    ),
    (
        "a weight without a gradient here stays behind on this rank",
        "_average_gradients",
        "weight.grad = mean.view_as(weight).clone()",
        "weight.grad = None if weight.grad is None else mean.view_as(weight).clone()",
        OVER_RANKS,
    ),
    ("two ranks count as one", "_average_gradients", "num_processes == 1", "num_processes <= 2", OVER_RANKS),
    (
        "the critic's rate is that of the next step",
        "Rivals.step",
        "(1 - step / self._steps)",
        "(1 - (step + 1) / self._steps)",
        f"{MEAN} {RATE}",
    ),
    (
        "no critic's rate ever falls",
        "Rivals.step",
        "player.rival.lr * (1 - step / self._steps) ** power",
        "player.rival.lr",
        f"{RATE} {MOMENTUM}",
    ),
    (
        "the rate of CIRKD's critic falls",
        "Holistic.__init__",
        'POLY_POWER if rate == "poly" else 0.0',
        "POLY_POWER",
        RATE,
    ),
    (
        "ifvd brings a critic whose rate falls",
        "IntraClassVariation",
        '"constant"',
        '"poly"',
        f"{RATE} {IFVD}",
    ),
    (
        "the critic's rate falls in a straight line",
        "skds_holistic.py:POLY_POWER",
        "0.9",
        "1.0",
        f"{RATE} {HOLISTIC}",
    ),
    (
        "the critic keeps its default rate whatever is asked",
        "Holistic.rival",
        "self.lr,",
        "4e-4,",
        RATE,
    ),
    (
        "the option that names the first map does the reverse",
        "Holistic.rival_loss",
        'self.first == "teacher"',
        'self.first != "teacher"',
        ORDER,
    ),
    (
        "the teacher's map is always judged first",
        "Holistic.rival_loss",
        'if self.first == "teacher"',
        "if True",
        ORDER,
    ),
    (
        "ifvd brings a critic that judges the teacher first",
        "IntraClassVariation",
        '"first": "student"',
        '"first": "teacher"',
        ORDER,
    ),
    (
        "the option that names the first map is forgotten",
        "Holistic.__init__",
        "self.condition, self.first, self.lambda_d = condition, first,",
        'self.condition, self.first, self.lambda_d = condition, "teacher",',
        ORDER,
    ),
    (
        "ifvd brings a critic that norms over one rank",
        "IntraClassVariation",
        '"statistics": "all"',
        '"statistics": "rank"',
        SPANS,
    ),
    (
        "every critic norms over one rank",
        "Critic.__init__",
        "_over_ranks(in_channels) if spans_ranks else BatchScale(in_channels)",
        "BatchScale(in_channels)",
        SPANS,
    ),
    (
        "SKDS' critic norms over all ranks",
        "Critic.__init__",
        "_over_ranks(in_channels) if spans_ranks else BatchScale(in_channels)",
        "_over_ranks(in_channels)",
        SPANS,
    ),
    (
        "the critic over all ranks remembers old batches",
        "_over_ranks",
        "track_running_stats=False",
        "track_running_stats=True",
        f"{PUBLISHED}::test_a_critic_over_all_ranks_says_on_one_what_a_critic_of_one_says",
    ),
    ("the critic's own weight is not applied", "Holistic.rival_loss", "self.lambda_d * loss", "loss", PLANE),
    (
        "the critic has no gradient penalty",
        "Holistic.rival_loss",
        "loss + gradient_penalty(self.critic, self._seen(mixed, inputs))",
        "loss",
        PLANE,
    ),
    (
        "the hinge critic has a gradient penalty too",
        "Holistic.rival_loss",
        'if self.adversarial == "wgan-gp"',
        "if True",
        PLANE,
    ),
    ("the gradient penalty counts once instead of ten times", "PENALTY", "10.0", "1.0", PLANE),
    (
        "the student helps the critic",
        "fooling_loss",
        "-scores_of_student.mean()",
        "scores_of_student.mean()",
        PLANE,
    ),
    (
        "the critic takes the student's maps for the teacher's",
        "telling_loss",
        "scores_of_student.mean() - scores_of_teacher.mean()",
        "scores_of_teacher.mean() - scores_of_student.mean()",
        PLANE,
    ),
    (
        "the hinge lets go of the student at zero",
        "telling_loss",
        "(1 + scores_of_student)",
        "scores_of_student",
        PLANE,
    ),
    (
        "the penalty looks at the mirrored share",
        "between",
        "share_B111 * teacher_BCHW + (1 - share_B111) * student_BCHW",
        "share_B111 * student_BCHW + (1 - share_B111) * teacher_BCHW",
        HOLISTIC,
    ),
    ("SGD's critic has no momentum", "Holistic.rival", "momentum=0.9", "momentum=0.0", MOMENTUM),
    (
        "the momentum of a critic is not passed on",
        "_optimizer",
        "momentum=rival.momentum",
        "momentum=0.0",
        MEAN,
    ),
    (
        "SGD's critic decays with Adam's",
        "Holistic.rival",
        "0.0 if adam else 5e-4",
        "5e-4 if adam else 0.0",
        f"{MOMENTUM} {HOLISTIC}",
    ),
    ("Adam's critic averages as torch does", "Holistic.rival", "(0.9, 0.99)", "(0.9, 0.999)", HOLISTIC),
    (
        "the student's backward leaves gradients in the critic",
        "Rivals.freeze",
        "requires_grad_(not frozen)",
        "requires_grad_(True)",
        f"{STEP}::test_the_students_backward_leaves_the_critic_without_a_gradient",
    ),
    (
        "a resumed critic begins with a fresh optimizer",
        "Rivals.load_state_dict",
        "player.optimizer.load_state_dict(state[label])",
        "pass",
        f"{STEP}::test_killed_and_resumed_ends_bit_identical",
    ),
    (
        "spectral norms stand still",
        "SpectralConv.forward",
        "self.u.copy_(u)",
        "pass",
        CRITIC,
    ),
    (
        "the gradient does not flow through the spectral norm",
        "SpectralConv.forward",
        "(u @ flat @ v)",
        "(u @ flat @ v).detach()",
        CRITIC,
    ),
    (
        "attention is normalised over the wrong cells",
        "SelfAttention.forward",
        ".softmax(2)",
        ".softmax(1)",
        CRITIC,
    ),
    (
        "the critic computes in the precision around it",
        "Critic.forward",
        "in_float32(self._forward)(scores_BCHW)",
        "self._forward(scores_BCHW)",
        CRITIC,
    ),
]
