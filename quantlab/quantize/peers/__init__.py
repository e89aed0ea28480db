"""Other people's quantizers, and the engines of other packages, each in a process of its own.

They crash, hang, call exit(), rewrite files in the working directory and log thousands of lines; in
a child process, in a temporary folder, none of that reaches the caller: it gets a model or a
QuantizeError of a line or two.
"""
