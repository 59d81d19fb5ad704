"""``lorapipe completion``: the script that makes a shell complete at TAB.

click answers what the scripts ask (``_LORAPIPE_COMPLETE=bash_complete``): lines of a type and a word.
They are our own since click's put a space behind ``strength=`` and ``folder/``, and do not quote what
bash needs quoted; ``path`` is a type more (:mod:`~lorapipe.cli.completing`).
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
            path)
                compopt -o filenames
                COMPREPLY+=("${word%/}")
                ;;
            *)
                [[ $word == *= ]] && compopt -o nospace
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
            path | plain)
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

_FISH = r"""function _lorapipe_completion
    for line in (env COMP_WORDS=(commandline -cp) COMP_CWORD=(commandline -t) \
            _LORAPIPE_COMPLETE=fish_complete lorapipe 2>/dev/null)
        set -l parts (string split --max 1 , -- $line)
        switch $parts[1]
            case dir
                __fish_complete_directories $parts[2]
            case file
                __fish_complete_path $parts[2]
            case '*'
                echo $parts[2]
        end
    end
end
complete --command lorapipe --no-files --arguments '(_lorapipe_completion)'
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


@click.command("completion")
@click.argument("shell", type=click.Choice(list(_SCRIPTS)), required=False)
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
    if name not in _SCRIPTS:
        raise click.UsageError(f"which shell? one of {', '.join(_SCRIPTS)}")
    click.echo(_SCRIPTS[name], nl=False)
