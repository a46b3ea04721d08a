"""What the reader says it knows of a script is what bash does with it; what it cannot know it says it does not."""

from __future__ import annotations

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from reconciler.launcher.callwords import Call
from reconciler.launcher.expansion import Unknown
from reconciler.launcher.scriptreader import NoCall, Unreadable, read_script
from reconciler.launcher.scriptwalk import CALLS_MAX
from tests.launcher.realbash import read, run, wrong

KNOWN_WHOLE = {
    "a command line": "LR=1 bash train_alcf.sh --a",
    "exports, before and after": "export A=1; A=2; export B; B=3; C=4\nbash train_alcf.sh --a $A 'p q' a\\ b",
    "exports together take what was before": "export A=1; export A=2 B=$A\nbash train_alcf.sh",
    "export of quoted words": "export \"LR=5\" 'B=6'; declare -x C=7; export D=8; export -n D\nbash train_alcf.sh",
    "assignments before a command": "A=1 B=$A bash train_alcf.sh",
    "arrays": 'A=(--a "b c" # why\n --d=4)\nA+=(--e)\nbash train_alcf.sh "${A[@]}" ${A[@]} "${A[*]}" ${A[0]}',
    "functions": 'f() { local LR=5; export LR; bash train_alcf.sh "$@" --n=$#; }\nexport LR=1\nf a "b c"\n'
    "bash train_alcf.sh",
    "functions of other spellings": "g() (export A=1; bash train_alcf.sh; )\nfunction h { A=2; }\n"
    "function k() { A=$((A+1)); }\nexport A=0\ng\nh; k\nbash train_alcf.sh",
    "a function given variables": "f() { bash train_alcf.sh; }\nLR=7 f\nbash train_alcf.sh",
    "a function that returns": "f() { export A=1; return; export B=1; }\nf\nbash train_alcf.sh",
    "pipes and jobs change nothing outside": "export A=1 | cat\n{ export B=1; } | cat\n{ export C=1; } &\nwait\n"
    "export D=1 &\nbash train_alcf.sh |& cat",
    "subshells": "export A=1\n( export A=2; bash train_alcf.sh )\nbash train_alcf.sh",
    "here-documents are text": "cat >run.sh <<EOF\nLR=9 bash train_alcf.sh\nEOF\ncat <<-'E' | cat\n\ta $(\n\tE\n"
    "LR=1 bash train_alcf.sh >log 2>&1",
    "brackets in quotes in brackets": 'A=$(echo ")"); export B=2\nbash train_alcf.sh',
    "shells in shells": "export K=1; J=2\nbash -c 'LR=3 bash train_alcf.sh \"$@\"' x a b",
    "words without quotes are split": 'X="a  b"; bash train_alcf.sh $X "$X" p$X"q r"$X',
    "a way that ends": 'if [ -z "$Q" ]; then export A=1; else export A=2; exit 1; fi\nbash train_alcf.sh',
    "one word that is not known": 'f() { export N=$2 K=$#; }\nf "$(date)" 2; unset Q\nbash train_alcf.sh',
    "wrappers": "env A=1 B='2 3' bash train_alcf.sh\nnohup bash train_alcf.sh &\nwait\ntimeout 5 bash train_alcf.sh\n"
    "nice -n 1 bash train_alcf.sh\nexec bash train_alcf.sh x\nbash train_alcf.sh never",
    "export of everything": "set -a; A=1; set +a; B=1\nset -- x y; shift\nbash train_alcf.sh $1 $# $@",
    "defaults": "export A=${A:-5}; export B=${B-6} C=${A:+7} D=${N:=8} F=${A:?no} G=\"${NO:-'z'}\"\n"
    'bash train_alcf.sh --x=$((22*10**9)) --y=$((A*2)) ${U:-} "${U:-}"',
    "quotes": "export A=$'x' B=$\"y\" C='$X' D=\"\\$X\" E=\"a\\\nb\" F=a\\\nb\nbash train_alcf.sh '$@' a#b #c",
    "a number before a file": "bash train_alcf.sh 4 > log",
}


@pytest.mark.parametrize("text", KNOWN_WHOLE.values(), ids=KNOWN_WHOLE)
def test_what_is_read_is_what_bash_does(text: str) -> None:
    made, said = run(text), read(text)
    assert len(made) == len(said) > 0
    for given_, call in zip(made, said, strict=True):
        assert wrong(call, given_) == []
        assert not call.unknown
        assert not call.unknown_arguments


@pytest.mark.parametrize(
    ("text", "environment", "arguments", "not_seen"),
    [
        ("qsub -q prod -v LR=1e-4,TRAIN_ITERS=9 train_alcf.sh", {"LR": "1e-4", "TRAIN_ITERS": "9"}, (), set()),
        ("export LR=1\nqsub train_alcf.sh", {}, (), {"LR"}),
        ("A=2 qsub ./train_alcf.sh", {}, (), {"A"}),
        ("export LR=1; B=3\nA=2 qsub -V -N x train_alcf.sh", {"LR": "1", "A": "2"}, (), {"B"}),
        ("export LR=1 A=2\nqsub -vLR,B='3 4' train_alcf.sh", {"LR": "1", "B": "3 4"}, (), {"A"}),
        ("qsub -v \"A='x,y',B=2\" -- bash train_alcf.sh --a", {"A": "x,y", "B": "2"}, ("--a",), set()),
        ("LR=1 mpiexec -n 1 --ppn 1 bash train_alcf.sh --a", {"LR": "1"}, ("--a",), set()),
    ],
)
def test_a_launcher_that_is_submitted_or_started_by_mpi(
    text: str, environment: dict[str, str], arguments: tuple[str, ...], not_seen: set[str]
) -> None:
    (call,) = read_script(text).calls
    assert (call.environment, call.arguments, set(call.unexported)) == (environment, arguments, not_seen)


def test_what_qsub_passes_is_not_known_where_its_value_is_not() -> None:
    (call,) = read_script("qsub -v A=1,B=$X,C=$(date) train_alcf.sh").calls
    assert (call.environment, set(call.unknown)) == ({"A": "1"}, {"B", "C"})


def test_the_size_of_a_submitted_job_is_what_qsub_asks_for() -> None:
    script = read_script("#PBS -l select=2\nqsub -l select=16 -l walltime=01:00:00,filesystems=eagle train_alcf.sh")
    assert (script.nodes, script.walltime_s, script.filesystems) == (16, 3600, "eagle")
    assert read_script("#PBS -l select=2\nqsub train_alcf.sh").nodes is None


NOT_KNOWN = {
    "a command's output": ("export LR=$(cat rate); bash train_alcf.sh", "LR", "output of a command"),
    "backticks": ("export LR=`cat rate`; bash train_alcf.sh", "LR", "output of a command"),
    "the job's environment": ("export LR=$RATE; bash train_alcf.sh", "LR", "the text does not set it"),
    "PBS": ("export SAVE=${PBS_O_WORKDIR:-.}/x; bash train_alcf.sh", "SAVE", "PBS_O_WORKDIR is not known"),
    "a condition": ("[ -f x ] && export LR=1\nbash train_alcf.sh", "LR", "line 1 exports it only under a condition"),
    "two values": (
        "if [ -f x ]; then export LR=1; else export LR=2; fi\nbash train_alcf.sh",
        "LR",
        "under a condition",
    ),
    "a case": ("export LR=1\ncase $1 in a) LR=2 ;; esac\nbash train_alcf.sh", "LR", "under a condition"),
    "a loop": ("for LR in 1 2; do export LR; bash train_alcf.sh; done", "LR", "one value after the other"),
    "after a loop": (
        "export X=1 Y=1; for i in 1 2; do Y=$X; X=2; done; bash train_alcf.sh",
        "Y",
        "line 1 sets it in a loop",
    ),
    "input": ("export LR; read -r LR <<<2; bash train_alcf.sh", "LR", "`read` sets it"),
    "arithmetic commands": ("export N=1; ((N++)); bash train_alcf.sh", "N", "the shell's arithmetic sets it"),
    "a loop of arithmetic": ("export i=9; for ((i=0;i<2;i++)); do :; done; bash train_alcf.sh", "i", "in a loop"),
    "integers": ("declare -ix N=3+4; bash train_alcf.sh", "N", "declare -ix"),
    "a home folder": ("LOAD=~/x bash train_alcf.sh", "LOAD", "home folder"),
    "what is cut from a value": ("export A=x.y; export B=${A%.*}; bash train_alcf.sh", "B", "not evaluated here"),
    "arithmetic that fails": ("export N=$((1/0)); bash train_alcf.sh", "N", "division by zero"),
    "a script's argument": ("export N=$1; bash train_alcf.sh", "N", "does not set it"),
    "arguments that may be shifted": (
        "f() { [ -n x ] && shift; export N=$1; }\nf 1 2\nbash train_alcf.sh",
        "N",
        "shifted under a condition",
    ),
    "what comes behind any number of words": ("set -- $NONE 2; export N=$1; bash train_alcf.sh", "N", "how many words"),
    "how many there are": ("set -- $NONE 2; export N=$#; bash train_alcf.sh", "N", "how many words"),
    "after a shift of them": ("set -- $NONE 2 3; shift; export N=$1; bash train_alcf.sh", "N", "how many words"),
    "an element of them": ("A=($NONE 2); export N=${A[1]}; bash train_alcf.sh", "N", "how many words"),
    "an element that is set": ("A=(1 2); A[0]=5; export N=${A[1]}; bash train_alcf.sh", "N", "one by one"),
    "a value that grows without end": (
        "export A=aaaaaaaaaa" + "; A=$A$A" * 12 + "\nbash train_alcf.sh",
        "A",
        "longer than 20,000 characters",
    ),
}


@pytest.mark.parametrize(("text", "name", "why"), NOT_KNOWN.values(), ids=NOT_KNOWN)
def test_what_cannot_be_known_is_said_with_its_reason(text: str, name: str, why: str) -> None:
    call = read(text)[0]
    assert why in call.unknown[name].why
    assert name not in call.environment
    for given_ in run(text)[:1]:
        assert wrong(call, given_) == []


@pytest.mark.parametrize("word", ["{a,b}", "*.sh", "--x={1..3}", "~", '"${A[@]}"', "$(ls)", "x$N"])
def test_an_argument_that_cannot_be_known(word: str) -> None:
    (call,) = read(f"bash train_alcf.sh --a {word} --b")
    assert call.arguments == ("--a", "--b")
    assert [type(one) for one in call.words] == [str, Unknown, str]


def test_a_variable_that_is_set_and_not_exported_is_told_apart() -> None:
    (call,) = read("LR=1\nexport A=2\nSAVE=/x\nbash train_alcf.sh")
    assert (dict(call.environment), dict(call.unexported)) == ({"A": "2"}, {"LR": 1, "SAVE": 3})


def test_env_i_hands_on_nothing_else() -> None:
    text = "export A=1; env -i PATH=$PATH CALLS_MADE=$CALLS_MADE B=2 /bin/bash train_alcf.sh; bash train_alcf.sh"
    cleared, plain = read(text)
    assert (dict(cleared.environment), dict(plain.environment)) == ({"B": "2"}, {"A": "1"})
    assert [wrong(call, made) for call, made in zip((cleared, plain), run(text), strict=True)] == [[], []]


def test_calls_in_a_loop_are_marked() -> None:
    assert [call.repeats for call in read("while :; do bash train_alcf.sh; done\nbash train_alcf.sh")] == [True, False]


def test_a_file_that_is_read_in_after_a_setting_is_named() -> None:
    before, after = read("source env.sh; LR=1 bash train_alcf.sh"), read("export LR=1; . env.sh; bash train_alcf.sh")
    assert (before[0].unsure, after[0].unsure) == ({}, {"LR": "env.sh"})
    assert read("export LR=1; . env.sh\nLR=2; bash train_alcf.sh")[0].unsure == {}
    assert read_script("source a; . b; bash train_alcf.sh").sources == ("a", "b")


@pytest.mark.parametrize(
    ("directives", "found"),
    [
        ("#PBS -l select=256\n#PBS -l walltime=06:00:00,filesystems=flare:home", (256, "flare:home", 21600)),
        ("#PBS -l select=2:ncpus=4+3:ncpus=8", (5, "", None)),
        ("#PBS -lnodes=4\n#PBS -l walltime=90", (4, "", 90)),
        ("#PBS -q prod -l select=2 -A x -l walltime=1:00:00:00", (2, "", 86400)),
        ("##PBS -l select=2", (None, "", None)),
        ("echo\n#PBS -l select=2", (None, "", None)),
    ],
)
def test_what_the_directives_ask_for(directives: str, found: tuple[object, ...]) -> None:
    script = read_script(f"#!/bin/bash\n{directives}\nbash train_alcf.sh")
    assert (script.nodes, script.filesystems, script.walltime_s) == found


@pytest.mark.parametrize(
    "text",
    [
        "",
        "echo bash train_alcf.sh",
        "cat train_alcf.sh",
        "# bash train_alcf.sh",
        "qsub job.sh",
        "qsub -v $SETTINGS train_alcf.sh",
        "cat <<E\nbash train_alcf.sh\nE\n",
        "exit; bash train_alcf.sh",
        "f() { bash train_alcf.sh; }",
    ],
)
def test_what_is_no_call(text: str) -> None:
    with pytest.raises(NoCall, match=r"no call of the launcher was found: a line such as `LR=2e-4"):
        read_script(text)


@pytest.mark.parametrize(
    "text",
    [
        "bash ./train_alcf.sh",
        "./train_alcf.sh",
        "bash -x /a/b/train_aGPT_2B_large_batch.sh",
        'bash "$DIR/train_alcf.sh"',
        "time bash train_alcf.sh | tee log",
        "if bash train_alcf.sh; then :; fi",
        "cd x && bash train_alcf.sh",
        "T=train_alcf.sh; bash $T",
        "source train_alcf.sh",
    ],
)
def test_what_is_a_call(text: str) -> None:
    assert len(read_script(text).calls) == 1


N = 199_000
HOSTILE = {
    "NUL": ("LR=1\nbash train\0_alcf.sh", "line 2 holds a NUL byte"),
    "10 MB": ("#" * 10_000_000, "the text has 10,000,000 characters; 200,000 are read"),
    "thousands of variables": ("".join(f"V{i}=1\n" for i in range(5000)), "more than 1,000 variables are set"),
    "words without end": ("a;" * (N // 2), "more than 50,000 words"),
    "endless functions": ("f() { f; f; }; f; g() { f; f; }; g; g;", "more than 20,000 steps"),
    "open substitutions": ("$(" * (N // 2), "no call"),
    "open braces": ("${X:-" * (N // 5), "no call"),
    "open quotes": ('"$(' * (N // 3), "no call"),
    "subshells in subshells": ("( " * 24_000, "20,000 steps"),
    "ifs in ifs": ("if x; then " * 12_000, "20,000 steps"),
    "groups in groups, piped": ("{ " * 12_000 + "; } | " * 12_000, "20,000 steps"),
    "arithmetic in arithmetic": ("export X=$((" + "(" * 50_000, "no call"),
    "arrays that double": ("A=(x x x x)\n" + 'A=("${A[@]}" "${A[@]}")\n' * 7000, "no call"),
    "branches with many variables": ("".join(f"V{i}=1\n" for i in range(990)) + "true || x\n" * 11_000, "20,000 steps"),
    "documents without end": ("cat " + "<<A " * 20_000, "no call"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize(("text", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_text_ends_quickly_with_a_message(text: str, message: str) -> None:
    with pytest.raises((NoCall, Unreadable), match=message):
        read_script(text)


# --- scripts made up at random

NAMES = st.sampled_from(["LR", "SAVE", "N", "X"])
VALUES = st.sampled_from(
    ["1", "a", '"a b"', "'$X'", "$LR", '"$SAVE"', "${X:-d}", "${N:+$LR}", '"${X-p q}"', "$((2*3))", "$((N+1))", "a$X.b",
     '"x\\"y"', "a\\ b", "", "${LR}_$N", "$(echo 7)", "${NONE:=q}", "${X:-'s t'}", "~/x", "a,{b}"]
)  # fmt: skip
QUESTIONS = st.sampled_from(['[ -n "$X" ]', "true", "false", "! true", "[[ $N == 1 ]]", "test -z $LR", "((N))"])
ASSIGNMENT = st.builds("{}={}".format, NAMES, VALUES)
WORDS = st.sampled_from(
    ["--a", '"$X"', "$LR", "p$SAVE", '"$@"', "$*", "$#", "$1", "'q r'", '"${A[@]}"', "${A[*]}", "--n=$((N*2))", '""']
)
SIMPLE = st.one_of(
    ASSIGNMENT,
    st.builds("export {}".format, st.one_of(ASSIGNMENT, NAMES)),
    st.builds("export {} {}".format, ASSIGNMENT, ASSIGNMENT),
    st.builds("{} {}".format, ASSIGNMENT, ASSIGNMENT),
    st.builds("local {} 2>/dev/null".format, ASSIGNMENT),
    st.builds("unset {}".format, NAMES),
    st.builds("{}+={}".format, NAMES, VALUES),
    st.builds("A=({} {})".format, WORDS, VALUES),
    st.builds("A+=({})".format, WORDS),
    st.builds("(({}={}))".format, NAMES, st.integers(0, 9)),
    st.builds("set -- {} {}".format, WORDS, WORDS),
    st.builds("bash train_alcf.sh {} {}".format, WORDS, WORDS),
    st.builds("{} bash train_alcf.sh {}".format, ASSIGNMENT, WORDS),
    st.sampled_from(
        ["shift", "return 2>/dev/null", "set -a", "set +a", ": >out 2>&1", "cat <<E\n$X ) fi\nE\n", "true"]
    ),
)


def around(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Lists and compounds of commands."""
    body = st.lists(inner, min_size=1, max_size=3).map("\n".join)
    return st.one_of(
        st.builds("if {}; then\n{}\nfi".format, QUESTIONS, body),
        st.builds("if {}; then\n{}\nelif {}; then\n{}\nelse\n{}\nfi".format, QUESTIONS, body, QUESTIONS, body, body),
        st.builds("for {} in {} {}; do\n{}\ndone".format, NAMES, WORDS, VALUES, body),
        st.builds("case $X in a*) {}\n;; (b|c)\n{}\n;; esac".format, inner, body),
        st.builds("( {}\n)".format, body),
        st.builds("{{ {}\n}}".format, body),
        st.builds("{{ {}\n}} | cat".format, body),
        st.builds("{{ {}\n}} &\nwait".format, body),
        st.builds("{} && {{ {}\n}}".format, QUESTIONS, body),
        st.builds("until [ $# -lt 2 ] || ((++TURNS > 3)); do\n{}\nshift\ndone".format, body),
    )


CALLS = st.one_of(st.builds("f {}".format, WORDS), st.builds("{} f".format, ASSIGNMENT))
COMMANDS = st.recursive(st.one_of(SIMPLE, SIMPLE, CALLS), around, max_leaves=6)
FUNCTIONS = st.lists(st.recursive(SIMPLE, around, max_leaves=6), min_size=1, max_size=3).map(
    lambda lines: "\n".join(["f() {", *lines, "}"])
)
"""At the top only, since one that is defined under a condition is taken for defined; and none that calls itself."""
SCRIPTS = st.lists(st.one_of(COMMANDS, COMMANDS, FUNCTIONS), min_size=1, max_size=7).map(
    lambda lines: "\n".join([*lines, "bash train_alcf.sh --end"])
)


def numbered(text: str) -> str:
    """Each call with a number of its own, so that a call in bash is told from the others."""
    pieces = text.split("bash train_alcf.sh")
    return pieces[0] + "".join(f"bash train_alcf.sh --call={i}{piece}" for i, piece in enumerate(pieces[1:]))


def number_of(arguments: tuple[object, ...]) -> str:
    return str(arguments[0]).removeprefix("--call=")


@settings(max_examples=150)
@given(SCRIPTS)
@example("return 2>/dev/null\nbash train_alcf.sh --end")
@example("export LR=1\nfor SAVE in 1 2; do\nlocal LR=3 2>/dev/null\ndone\nbash train_alcf.sh --end")
@example('[ -n "$X" ] && { export LR=1\n}\nLR=2\nbash train_alcf.sh --end')
@example('[ -n "$X" ] && { set -a\n}\nLR=2\nbash train_alcf.sh --end')
@example("( f() {\nunset X\n}\n)\nX=1 f\nbash train_alcf.sh --end")
@example("f() {\nexport LR\n}\nLR=1 f\nbash train_alcf.sh --end")
@example("export N=0\nf() {\n( local N=1\n)\nN=1\n}\nf\nbash train_alcf.sh --end")
@example("export N=0\nf() {\nfalse && local N\nN=1\n}\nf\nbash train_alcf.sh --end")
@example("set -- --a $1\nbash train_alcf.sh --a $#\nbash train_alcf.sh --end")
def test_whatever_is_said_to_be_known_is_what_bash_does(script: str) -> None:
    text = "f() { :; }\n" + numbered(script)
    said: dict[str, list[Call]] = {}
    seen = read(text)
    assume(len(seen) < CALLS_MAX)
    for call in seen:
        said.setdefault(number_of(call.words), []).append(call)
    made: dict[str, int] = {}
    for given_ in run(text):
        number = number_of(given_.arguments)
        time = made[number] = made.get(number, -1) + 1
        if time == 0 or not any(call.repeats for call in said.get(number, ())):
            candidates = said.get(number, [])
            # A call in a function is seen once for each call of the function.
            assert any(not wrong(call, given_) for call in candidates), (number, candidates, given_)
