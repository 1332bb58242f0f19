"""From the form that a method asks for to the module that is trained."""

from collections.abc import Callable

from kdcache.cache.networks.network import Network
from kdcache.losses.contract import StudentForm
from kdcache.trainer.students.branches import Branches
from kdcache.trainer.students.contract import SeveralStudents
from kdcache.trainer.students.exits import Exits
from kdcache.trainer.students.peers import Peers


def wrap_student(form: StudentForm, make: Callable[[], Network]) -> Network | SeveralStudents:
    """One network from `make`, or several in `form`. Raises BadOption where the network cannot take it."""
    if form.kind == "exits":
        return Exits(make(), count=form.count, form=form.option)
    if form.kind == "branches":
        scaled = form.option == "bpscale"
        return Branches(make(), count=form.count, deployed=form.deployed, scaled=scaled)
    if form.kind == "peers":
        return Peers(make, count=form.count, deployed=form.deployed)
    return make()
