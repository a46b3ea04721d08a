# This machine: the Python that has torch comes first.
. {{ (checkout ~ "/environment.sh") | sh }}
