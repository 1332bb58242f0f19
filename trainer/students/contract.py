"""What stands in a run's place of the student when more is trained than one network.

A `SeveralStudents` reads images like a `Network` and offers further taps; one ordinary Network inside it is
`deployed`: judged, exported, and used by every other command. The rest lives in the checkpoint.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from kdcache.cache.networks.network import Network
from kdcache.cache.spec import TensorSpec, unknown


class SeveralStudents(nn.Module):
    """Base of the forms: children say `deployed`, `taps` and how each tap is computed."""

    @property
    def deployed(self) -> Network:
        raise NotImplementedError

    @property
    def taps(self) -> tuple[str, ...]:
        raise NotImplementedError

    def forward(self, images_BHWC: Tensor, taps: Sequence[str]) -> dict[str, Tensor]:
        """Maps and vectors by tap; parts that nothing was asked of do not run, or DDP would wait for them."""
        raise NotImplementedError

    def tap_specs(self, taps: Sequence[str], height: int, width: int) -> dict[str, TensorSpec]:
        raise NotImplementedError

    def check_names(self, taps: Sequence[str]) -> None:
        """Raises BadOption for a tap that this form does not have."""
        for tap in taps:
            if tap not in self.taps:
                raise unknown("tap", tap, self.taps, where=f"student taps of {self.deployed.name}")


def deployed_of(student: nn.Module) -> nn.Module:
    """The network to judge and to export: of several students the deployed one, else the student."""
    return student.deployed if isinstance(student, SeveralStudents) else student
