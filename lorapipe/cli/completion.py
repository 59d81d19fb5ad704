"""``lorapipe completion``: the script that makes a shell complete at TAB.

click answers what the scripts ask (``_LORAPIPE_COMPLETE=bash_complete``). Those for bash and zsh
are our own: click's put a space behind ``strength=`` and ``folder/``, and bash's does not quote.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

__all__ = ["command"]

_BASH = r"""_lorapipe_completion() {
    local kind word
    COMPREPLY=()
    while IFS=, read -r kind word; do
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            *)
                if [[ -e ${word/#\~/$HOME} ]]; then
                    compopt -o filenames
                    word=${word%/}
                elif [[ $word == *= ]]; then
                    compopt -o nospace
                fi
                COMPREPLY+=("$word")
                ;;
        esac
    done < <(
        env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" \
            _LORAPIPE_COMPLETE=bash_complete "$1" 2>/dev/null
    )
}
complete -o nosort -F _lorapipe_completion lorapipe
"""

_ZSH = r"""#compdef lorapipe
_lorapipe_completion() {
    local kind word note
    local -a answer bare noted unfinished
    answer=("${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) \
        _LORAPIPE_COMPLETE=zsh_complete ${~words[1]} 2>/dev/null)}")
    for kind word note in "${answer[@]}"; do
        case $kind in
            dir) _path_files -/ ;;
            file) _path_files -f ;;
            plain)
                if [[ $word == *[=/] ]]; then
                    unfinished+=("${word//\\:/:}")
                elif [[ $note == _ ]]; then
                    bare+=("$word")
                else
                    noted+=("$word:$note")
                fi
                ;;
        esac
    done
    (( $#noted )) && _describe -V lorapipe noted -U
    (( $#bare )) && compadd -U -V files -- "${bare[@]}"
    (( $#unfinished )) && compadd -U -S '' -V unfinished -- "${unfinished[@]}"
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _lorapipe_completion "$@"
else
    compdef _lorapipe_completion lorapipe
fi
"""

_SHELLS = ("bash", "zsh", "fish")


@click.command("completion")
@click.argument("shell", type=click.Choice(_SHELLS), required=False)
def command(shell: str | None) -> None:
    r"""Print the completion script of SHELL; without SHELL, of the one in $SHELL.

    \b
    bash  eval "$(lorapipe completion bash)"     in ~/.bashrc
    zsh   eval "$(lorapipe completion zsh)"      in ~/.zshrc, after compinit
    fish  lorapipe completion fish > ~/.config/fish/completions/lorapipe.fish

    It completes commands, options, recipes, files of weights, kinds, the ids of a recipe's steps,
    and the names of its params behind --set.
    """
    name = shell or Path(os.environ.get("SHELL", "")).name
    if name not in _SHELLS:
        raise click.UsageError(f"which shell? one of {', '.join(_SHELLS)}")
    click.echo({"bash": _BASH, "zsh": _ZSH}.get(name) or _fish(), nl=False)


def _fish() -> str:
    from click.shell_completion import FishComplete

    root = click.get_current_context().find_root().command
    return FishComplete(root, {}, "lorapipe", "_LORAPIPE_COMPLETE").source()
