"""``kmm completion``: what a shell needs to complete ``kmm``, and the answers that it asks for."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar, Final

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ShellComplete, ZshComplete

from kmm.cli.errors import InputError
from kmm.cli.main import COMPLETION
from kmm.cli.variants import PATH

_BASH: Final = r"""%(complete_func)s() {
    local kind value
    COMPREPLY=()
    while IFS=, read -r kind value; do
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            path) compopt -o filenames; COMPREPLY+=("$value") ;;
            plain) COMPREPLY+=("$value") ;;
        esac
    done < <(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" %(complete_var)s=bash_complete "${1/#\~\//$HOME/}" 2>/dev/null)
}
complete -F %(complete_func)s %(prog_name)s
"""

_ZSH: Final = r"""#compdef %(prog_name)s
%(complete_func)s() {
    local kind value help
    local -a answer described plain files folders
    answer=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) %(complete_var)s=zsh_complete ${~words[1]} 2>/dev/null)}")
    for kind value help in $answer; do
        value=${value/#\~\//$HOME/}
        case $kind in
            dir) compset -P '--*='; _path_files -/ ;;
            file) compset -P '--*='; _path_files ;;
            path) if [[ $value == */ ]]; then folders+=("$value"); else files+=("$value"); fi ;;
            plain) if [[ $help == _ ]]; then plain+=("$value"); else described+=("$value:$help"); fi ;;
        esac
    done
    (( $#described )) && _describe %(prog_name)s described
    (( $#plain )) && compadd -U -a plain
    (( $#files )) && compadd -U -a files
    (( $#folders )) && compadd -U -S '' -a folders
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH: Final = r"""function %(complete_func)s
    set -l token (commandline -ct)
    set -l option (string match -r '^--[^=]*=' -- $token)
    for line in (env COMP_WORDS=(commandline -cp) COMP_CWORD=$token %(complete_var)s=fish_complete %(prog_name)s 2>/dev/null)
        set -l item (string split -m 1 , -- $line)
        switch $item[1]
            case dir file
                for path in (__fish_complete_path (string replace -- "$option" '' $token))
                    printf '%%s\n' "$option$path"
                end
            case '*'
                printf '%%s\n' $item[2]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""


def _whole_words(items: list[CompletionItem[str]], incomplete: str) -> list[CompletionItem[str]]:
    """For a shell to which ``--option=value`` is one word."""
    option, equals, _ = incomplete.partition("=")
    if not (equals and option.startswith("--")):
        return items
    return [CompletionItem(f"{option}={item.value}", type=item.type, help=item.help) for item in items]


class Bash(BashComplete):
    """Bash, which takes ``--option=value`` for three words."""

    source_template: ClassVar[str] = _BASH

    def source(self) -> str:
        """The script, whichever bash is installed here."""
        return ShellComplete.source(self)

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is completed, and that."""
        args, incomplete = super().get_completion_args()
        after_option = [i for i, word in enumerate(args) if word == "=" and i and args[i - 1].startswith("--")]
        return [word for i, word in enumerate(args) if i not in after_option], incomplete

    def format_completion(self, item: CompletionItem[str]) -> str:
        """Readline puts the slash behind a directory."""
        return f"{item.type},{item.value.rstrip('/') if item.type == PATH else item.value}"


class Zsh(ZshComplete):
    """Zsh."""

    source_template: ClassVar[str] = _ZSH

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Whole words."""
        return _whole_words(super().get_completions(args, incomplete), incomplete)


class Fish(FishComplete):
    """Fish."""

    source_template: ClassVar[str] = _FISH

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        """Whole words."""
        return _whole_words(super().get_completions(args, incomplete), incomplete)


SHELLS: Final[dict[str, type[ShellComplete]]] = {"bash": Bash, "zsh": Zsh, "fish": Fish}


def answer(group: click.Group, instruction: str) -> str:
    """What a shell is told that asks with :data:`kmm.cli.main.COMPLETION`; one completion a line, in the form of its script.

    :param instruction: the variable's value
    :raises InputError: it is not one that the scripts set
    """
    shell, _, rest = instruction.partition("_")
    if shell not in SHELLS or rest != "complete":
        raise InputError(f'{COMPLETION} is "{instruction}"', "unset it; only the scripts that kmm completion prints set it")
    completer = SHELLS[shell](group, {}, "kmm", COMPLETION)
    try:
        completer.get_completion_args()
    except (KeyError, ValueError):
        raise InputError(f"{COMPLETION} is set, but not COMP_WORDS and COMP_CWORD", f"unset {COMPLETION}") from None
    return completer.complete()


@click.command(
    epilog="""\b
Examples:
  eval "$(kmm completion bash)"      in ~/.bashrc
  eval "$(kmm completion zsh)"       in ~/.zshrc, after compinit
  kmm completion fish | source       in ~/.config/fish/config.fish
"""
)
@click.argument("shell", type=click.Choice(list(SHELLS)), required=False)
@click.pass_context
def completion(ctx: click.Context, shell: str | None) -> None:
    """Print the completion script of SHELL (default: the shell that the variable SHELL names).

    It completes commands, options and their values, names and files of variants, and scenario files.
    """
    chosen = shell or Path(os.environ.get("SHELL", "")).name
    if chosen not in SHELLS:
        raise InputError("the variable SHELL names none of bash, zsh and fish", "name one, as in: kmm completion bash")
    click.echo(SHELLS[chosen](ctx.find_root().command, {}, "kmm", COMPLETION).source(), nl=False)
