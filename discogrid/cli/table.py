"""Every command, where it lives and its line in the help: what `discogrid --help` needs without importing any of them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    """One command: `target` is `module:function`, imported when the command runs."""

    target: str
    help: str
    section: str


_RUN, _SEE, _ACT = "Run work", "See work", "Act on work"
_GRID, _HERE, _LAB = "The grid", "This machine", "The code lab's commands"

COMMANDS: dict[str, Row] = {
    "submit": Row(
        "discogrid.cli.submit:submit", "Run a script over many inputs and download the results.", _RUN
    ),
    "map": Row(
        "discogrid.cli.map:map_command", "Call a Python function for many items and print the results.", _RUN
    ),
    "demo": Row(
        "discogrid.cli.demo:demo", "Put disco glasses on a generated movie, on this machine alone.", _RUN
    ),
    "ls": Row("discogrid.cli.look:ls", "List the jobs.", _SEE),
    "show": Row("discogrid.cli.look:show", "Show a job or a task.", _SEE),
    "tasks": Row("discogrid.cli.look:tasks", "List the tasks of a job.", _SEE),
    "logs": Row("discogrid.cli.logs:logs", "Print what a job's tasks wrote, or follow it.", _SEE),
    "why": Row("discogrid.cli.why:why", "Say why a job waits or what made it fail.", _SEE),
    "status": Row("discogrid.cli.look:status", "Show the grid on one screen.", _SEE),
    "tui": Row("discogrid.cli.tui:tui", "Watch everything live.", _SEE),
    "wait": Row("discogrid.cli.act:wait", "Wait until a job has ended.", _ACT),
    "attach": Row("discogrid.cli.act:attach", "Go on watching and downloading a job.", _ACT),
    "get": Row("discogrid.cli.act:get", "Download the results of a job.", _ACT),
    "cancel": Row("discogrid.cli.act:cancel", "Stop a job.", _ACT),
    "prune": Row("discogrid.cli.prune:prune", "Drop old jobs and their results.", _ACT),
    "release": Row("discogrid.cli.act:release", "Let a held job run.", _ACT),
    "agents": Row("discogrid.cli.look:agents", "List the machines that work.", _GRID),
    "agent": Row("discogrid_agent.command:agent", "Lend this machine to the grid.", _GRID),
    "coordinator": Row("discogrid_coordinator.command:coordinator", "Run the grid's coordinator.", _GRID),
    "up": Row("discogrid_coordinator.command:up", "Run the coordinator and this machine's agent.", _GRID),
    "invite": Row("discogrid.cli.pairing:invite", "Let a machine join the grid by a short code.", _GRID),
    "join": Row("discogrid.cli.pairing:join", "Join a grid by the code that it shows.", _GRID),
    "trust": Row("discogrid.cli.trust:trust", "Say who belongs to the grid; put a member out.", _GRID),
    "doctor": Row("discogrid.cli.doctor:doctor", "Check this machine and name what to fix.", _HERE),
    "config": Row("discogrid.cli.config:config", "Show the settings and where they come from.", _HERE),
    "completion": Row(
        "discogrid.cli.completion:completion", "Print the completion script of a shell.", _HERE
    ),
    "add": Row("discogrid.cli.lab:add", "Submit a job, held unless --run is given.", _LAB),
    "start": Row("discogrid.cli.lab:start", "Let a job run that was added without --run.", _LAB),
    "list": Row("discogrid.cli.lab:list_jobs", "List the jobs.", _LAB),
    "jobSummary": Row("discogrid.cli.lab:job_summary", "Count the jobs by their state.", _LAB),
    "view": Row("discogrid.cli.lab:view", "Show a job; download its results with --download.", _LAB),
    "cluster": Row("discogrid.cli.lab:cluster", "List the grids this machine knows.", _LAB),
    "login": Row("discogrid.cli.lab:login", "Say which grid this machine uses.", _LAB),
    "logout": Row("discogrid.cli.lab:logout", "Forget the joined grid's address.", _LAB),
    "version": Row("discogrid.cli.lab:version", "Print the version.", _LAB),
}
