# This machine: the Python that has torch comes first.
# shellcheck source=/dev/null
. {{ (checkout ~ "/environment.sh") | sh }} || exit 72
