"""Clusters that restrict tags and VMIDs: the role works there with the least role, and says beforehand what it may not do."""

import json

import pytest


@pytest.fixture
def least(world):
    """The variables of a user with the least role; the cluster's policy is removed in the end."""
    yield {f"nixos_vm_{key}": value for key, value in world.endpoint["provisioner"].items()}
    (world.pve / "datacenter.cfg").unlink(missing_ok=True)


def policy(world, *lines):
    (world.pve / "datacenter.cfg").write_text("".join(f"{line}\n" for line in lines))


@pytest.mark.parametrize("allow", ["none", "list,user-allow-list=web;db", "existing,user-allow-list=web"])
def test_the_role_works_where_tags_are_restricted(world, least, allow):
    policy(world, f"user-tag-access: user-allow={allow}", "registered-tags: secret", "next-id: lower=700,upper=799")
    web = world.machine(**least)
    web.play().succeeded()
    assert web.vm.record["phase"] == "done" and web.vm.tags == [] and 700 <= web.vm.vmid < 800
    assert web.play().succeeded().changed == 0
    tagged = world.machine(**least, nixos_vm_tags=["Web"])
    if allow == "none":
        tagged.play().refused("does not let", "web", "user-tag-access")
        assert tagged.vms == []
        return
    # PVE lets nobody make a VM with tags there: they are set once it is there.
    tagged.play().succeeded()
    assert tagged.vm.tags == ["web"] and tagged.vm.record["phase"] == "done"
    assert tagged.play().succeeded().changed == 0
    # What may not be set is refused, and nothing is changed for it.
    with world.untouched(tagged.vm):
        tagged.with_variables(nixos_vm_tags=["web", "secret"]).play().refused("secret")


def test_who_sees_the_policy_is_told_before_anything_is_changed(world, least):
    access = json.loads((world.pve / "access.json").read_text())
    access["acl"].append({"path": "/", "ugid": "provisioner@pve", "role": "PVEAuditor"})
    (world.pve / "access.json").write_text(json.dumps(access))
    policy(world, "user-tag-access: user-allow=list,user-allow-list=web")
    web = world.machine(**least, nixos_vm_tags=["web", "other"])
    with world.unchanged():
        web.play().refused("tags: the cluster does not let", "other", "tags that it may: web")
