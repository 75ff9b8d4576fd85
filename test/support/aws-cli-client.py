"""What "aws" is on the PATH of the tests: hands the call to aws-cli-server.py, whose socket is the first argument."""

import json
import os
import socket
import sys

path, *args = sys.argv[1:]
call = json.dumps({"args": args, "env": dict(os.environ), "cwd": os.getcwd()}).encode()
with socket.socket(socket.AF_UNIX) as connection:
    try:
        connection.connect(path)
        head = f"{len(call)}\n".encode()
        socket.send_fds(connection, [head], [0, 1, 2])
        connection.sendall(call)
        code = connection.recv(16)
    except OSError as error:
        sys.exit(f"The AWS CLI of the tests does not answer at {path}: {error}")
sys.exit(int(code) if code else "The AWS CLI of the tests ended without an exit code.")
