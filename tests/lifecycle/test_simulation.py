"""The simulated guests themselves: an installation goes the whole way."""


def test_a_machine_is_installed_and_a_second_run_changes_nothing(world):
    web = world.machine()
    play = web.play().succeeded()
    print(play.seconds)
    assert web.vm.disk.formats == 1 and web.vm.boots == ["installer", "installed"]
    assert web.runs() == [1, 1]
    with world.untouched(web.vm), world.unchanged():
        assert web.play().succeeded().changed == 0
    clone = web.vm.clone("copy")
    assert clone.disk == web.vm.disk
    web.destroy().succeeded()
    assert web.vms == [] and clone.exists
