"""The AWS CLI, loaded once: each call is a fork of this process and so costs 0.1 s instead of one.

Listens on the Unix socket that is its first argument. A client (aws-cli-client.py, which is "aws" on the PATH of the
tests) sends its arguments, environment and directory as JSON and its three standard streams; the fork becomes that
call of the real CLI and answers with its exit code. Prints a line when it listens; ends when standard input does.
"""

import json
import os
import select
import signal
import socket
import sys
import traceback

import awscli.clidriver

# The CLI tells itself by this variable where its own files are.
DATA_PATH = os.environ["AWS_DATA_PATH"]


def one_call(connection):
    message, streams, _, _ = socket.recv_fds(connection, 1024 * 1024, 3)
    size, _, rest = message.partition(b"\n")
    while len(rest) < int(size):
        rest += connection.recv(1024 * 1024)
    call = json.loads(rest)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(call["env"], AWS_DATA_PATH=DATA_PATH)
    os.chdir(call["cwd"])
    sys.argv = ["aws", *call["args"]]
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, encoding="utf-8", errors="surrogateescape") for number, mode in ((0, "r"), (1, "w"), (2, "w"))
    )
    try:
        code = awscli.clidriver.main()
    except SystemExit as end:
        code = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(str(code if isinstance(code, int) else 1).encode())


def serve(listener):
    while True:
        readable, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in readable:
            return
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            try:
                one_call(connection)
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            finally:
                os._exit(0)
        connection.close()


def preload():
    """What takes long is reading the descriptions of the services: once, before the forks."""
    session = awscli.clidriver.create_clidriver().session
    kind = type(session.get_component("data_loader").file_loader)
    read = kind.load_file
    files = {}

    def read_once(self, path):
        if path not in files:
            files[path] = read(self, path)
        return files[path]

    kind.load_file = read_once
    for service in ("ec2", "ecs", "ssm", "logs"):
        session.create_client(service, region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x")


if __name__ == "__main__":
    # Nobody waits for the forks.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    preload()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(sys.argv[1])
        listener.listen(64)
        print("listening", flush=True)
        serve(listener)
