"""Two controllers at one machine: whatever the moment, one goes on and the other stops."""

import shlex

import pytest
from conftest import PROJECT
from test_role import Play

# A variable that is looked at after the machine was looked for, and before it is made; and its value.
BEFORE_IT_IS_MADE = ("nixos_vm__installer_volid", "local:iso/installer.iso")


@pytest.fixture
def play(lab, tmp_path):
    play = Play(lab, tmp_path)
    yield play
    code, output = play("-e", "nixos_vm_confirm_destroy=web1", playbook="playbooks/destroy.yml")
    assert code == 0, output


@pytest.fixture
def meanwhile(play, tmp_path):
    """Flags that have another controller run the play, to its end, when a variable is looked at."""

    def flags(variable, value, *tags):
        other = tmp_path / "other"
        command = ["ansible-playbook", "provision.yml", "-i", play.inventory, "--tags", ",".join(tags), "-e", f"nixos_vm_state_root={other}/state"]
        script = tmp_path / "other.sh"
        script.write_text(
            f"[ -e {other} ] || {{ mkdir {other}; export XDG_CACHE_HOME={other}/cache; cd {PROJECT};\n"
            f"{shlex.join(map(str, command))} >{other}/log 2>&1 || touch {other}/failed; }}\necho '{value}'\n"
        )
        return ["-e", f"""{{"{variable}": "{{{{ lookup('ansible.builtin.pipe', 'sh {script}') }}}}"}}"""]

    yield flags
    log = (tmp_path / "other/log").read_text()
    assert not (tmp_path / "other/failed").exists(), log


def refused(play, *flags):
    code, output = play(*flags)
    assert code != 0 and "is not touched: it lacks the tag nixos-run-" in output, output
    return output


def test_both_find_no_machine(play, meanwhile):
    refused(play, "--tags", "upload,provision", *meanwhile(*BEFORE_IT_IS_MADE, "upload", "provision"))
    vm = play.vm(state="current")
    assert vm["tags"][0] == "nixos-provisioning" and "ide0" in vm["config"]


def test_both_take_up_an_interrupted_one(play, meanwhile):
    assert play("--tags", "upload,provision")[0] == 0
    before = play.vm(state="current")
    refused(play, "--tags", "provision", *meanwhile(*BEFORE_IT_IS_MADE, "provision"))
    assert play.vm(state="current")["tags"] != before["tags"]


def test_it_is_taken_over_just_before_the_installation(play, meanwhile):
    # The file's name is looked at after the machine's tags were, and before they are changed.
    flags = meanwhile("nixos_vm__closure_file", "/nonexistent/closure", "provision")
    output = refused(play, "--tags", "upload,provision,install", *flags)
    assert "Note that the installation begins, unless another run has taken the machine over" in output
    assert "nixos-installing" not in play.vm(state="current")["tags"]


def test_another_vm_of_that_name_is_never_taken(play, tmp_path):
    """One that the role did not make may appear just as the role is about to make its own."""
    script = tmp_path / "other.sh"
    options = " ".join(f"{key}={value}" for key, value in {**play.lab.connection, "name": "web1", "node": "pve"}.items())
    script.write_text(
        f"cd {PROJECT}; export XDG_CACHE_HOME={tmp_path}/cache;\n"
        f"[ -e {tmp_path}/made ] || ansible localhost -i localhost, -c local -m proxmox_nixos_vm -a '{options}' >{tmp_path}/made 2>&1\necho local:iso/installer.iso\n"
    )
    refused(play, "--tags", "upload,provision", "-e", f"""{{"nixos_vm__installer_volid": "{{{{ lookup('ansible.builtin.pipe', 'sh {script}') }}}}"}}""")
    vm = play.vm(state="current")
    assert vm["tags"] == [] and "scsi0" not in vm["config"]
