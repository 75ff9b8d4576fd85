"""moto's server with the promises of AWS that it leaves out and that carrierarr builds on.

RunInstances with a ClientToken seen before, and RunTask with a clientToken seen before, answer with what the first
call has made; with other parameters they are refused. A task runs until somebody stops it (moto's ends by being
looked at), and knows when it was created and how large it is. Prints its port when it listens; ends when standard input does,
so that it cannot outlive the test that started it.
"""

import datetime
import os
import sys
import threading

from moto.core.responses import ActionResult
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instances import InstanceBackend
from moto.ecs.exceptions import EcsClientException
from moto.ecs.models import EC2ContainerServiceBackend, Task
from moto.ecs.responses import EC2ContainerServiceResponse
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import make_server

# Requests are served by threads; two with one token must not both find that it is new.
lock = threading.RLock()


def tokens_of(backend):
    """Lives in the backend, which loses all its attributes when moto is reset."""
    return backend.__dict__.setdefault("carrierarr_tokens", {})


make_instances = InstanceBackend.run_instances


def run_instances(self, image_id, count, user_data, security_group_names, **kwargs):
    token = kwargs.get("client_token")
    # moto's own stand-in for "none given".
    if not token or token == "ABCDE":
        return make_instances(self, image_id, count, user_data, security_group_names, **kwargs)
    asked = repr((image_id, count, user_data, security_group_names, sorted(kwargs.items(), key=lambda item: item[0])))
    with lock:
        known = tokens_of(self).get(token)
        if known is None:
            made = make_instances(self, image_id, count, user_data, security_group_names, **kwargs)
            tokens_of(self)[token] = (asked, made)
            return made
    first, made = known
    if first != asked:
        raise EC2ClientError(
            "IdempotentParameterMismatch",
            "The client token you have provided is associated with a resource that has different parameters.",
        )
    if all(instance.state == "terminated" for instance in made.instances):
        raise EC2ClientError("IdempotentInstanceTerminated", "The instances of this token have been terminated.")
    return made


make_task = EC2ContainerServiceResponse.run_task


def run_task(self):
    token = self._get_param("clientToken")
    if not token:
        return make_task(self)
    asked = self.body if isinstance(self.body, str) else repr(self.body)
    with lock:
        known = tokens_of(self.ecs_backend).get(token)
        if known is None:
            before = set(tasks_of(self.ecs_backend))
            result = make_task(self)
            made = [task for arn, task in tasks_of(self.ecs_backend).items() if arn not in before]
            tokens_of(self.ecs_backend)[token] = (asked, made)
            return result
    first, made = known
    if first != asked:
        error = EcsClientException("The clientToken has been used with other parameters.")
        error.error_type = error.code = "ConflictException"
        raise error
    return ActionResult({"tasks": made, "failures": []})


def tasks_of(backend: EC2ContainerServiceBackend):
    return {arn: task for tasks in backend.tasks.values() for arn, task in tasks.items()}


make_task_object = Task.__init__


def init_task(self, cluster, task_definition, *args, **kwargs):
    make_task_object(self, cluster, task_definition, *args, **kwargs)
    self.created_at = self.started_at = datetime.datetime.now(datetime.timezone.utc)
    self.cpu, self.memory = task_definition.cpu, task_definition.memory


Task.__init__ = init_task
Task.advance = lambda self: None
InstanceBackend.run_instances = run_instances
EC2ContainerServiceResponse.run_task = run_task


def end_with_parent():
    sys.stdin.read()
    os._exit(0)


# Port 0: the system chooses, and nobody else can have it.
server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
print(server.server_port, flush=True)
threading.Thread(target=end_with_parent, daemon=True).start()
server.serve_forever()
