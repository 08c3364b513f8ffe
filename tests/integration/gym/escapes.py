"""What hostile answers try. Each defines total(xs) and reports a success with escaped().

Written so that one that works does no harm to the machine it is tested on: loops that start
processes are short, signals are harmless ones, files are the test's own.
"""

from __future__ import annotations

PRELUDE = """
import os
import sys

def escaped(what):
    sys.__stderr__.write(f"ESCAPED {what}")
    sys.__stderr__.flush()

def tried(action, *arguments):
    try:
        escaped(f"{action} gave {action(*arguments)!r}")
    except Exception:
        pass

def total(xs):
    return 0
"""

ESCAPES: dict[str, str] = {
    "fork bomb": """
for _ in range(40):
    try:
        if os.fork() == 0:
            escaped("a child")
            os._exit(0)
    except Exception:
        pass
""",
    "daemon": """
def daemon():
    if os.fork():
        return "its parent"
    os.setsid()
    if os.fork() == 0:
        escaped("a grandchild of its own session")
    os._exit(0)
tried(daemon)
tried(lambda: os.setsid())
""",
    "thread that outlives": """
import _thread
def forever():
    while True:
        pass
tried(_thread.start_new_thread, forever, ())
""",
    "another program": """
tried(lambda: {0: "a shell"}[os.system("true")])
tried(lambda: os.posix_spawn("/bin/true", ["true"], {}))
tried(lambda: os.execv("/bin/sh", ["sh", "-c", "echo ESCAPED >&2"]))
""",
    "fill the disk": """
for place in ("x", "/tmp/x", "/srv/x", "/dev/shm/x", "/var/tmp/x", DIRECTORY + "/x"):
    tried(lambda: open(place, "wb").write(bytes(1 << 20)))
tried(os.mkdir, DIRECTORY + "/made")
""",
    "read the answer file": "tried(lambda: open(ANSWERS).read())",
    "write the reward file": """
tried(lambda: open(REWARD, "w").write("1"))
tried(lambda: os.truncate(REWARD, 0))
tried(os.unlink, REWARD)
tried(os.rename, REWARD, REWARD + "2")
""",
    "symlinks": """
tried(os.symlink, ANSWERS, "link")
tried(os.symlink, ANSWERS, "/tmp/tracemarket-link")
tried(os.readlink, "/proc/self/cwd")
tried(lambda: open("/proc/self/root" + ANSWERS).read())
""",
    "system files": """
for place in ("/etc/passwd", "/etc/hostname", "/proc/self/mem", "/proc/cpuinfo", "/dev/mem"):
    tried(lambda: open(place, "rb").read(10))
tried(lambda: os.listdir("/proc"))
""",
    "the starter's memory": """
for pid in (STARTER, os.getppid() if hasattr(os, "getppid") else 1):
    for what in ("environ", "mem", "cmdline", "maps", "fd/0"):
        tried(lambda: open(f"/proc/{pid}/{what}", "rb").read(10))
""",
    "the environment": """
if "TRACEMARKET_SECRET" in os.environ:
    escaped("a secret")
if set(os.environ) - {"PYTHONHASHSEED", "LC_CTYPE"}:
    escaped(sorted(os.environ))
""",
    "sockets": """
def opened(family):
    import ctypes
    got = ctypes.CDLL(None).socket(family, 1, 0)
    if got < 0:
        raise OSError
    return got
for family in (1, 2, 10, 16):
    tried(opened, family)
tried(lambda: __import__("socket").create_connection(("127.0.0.1", PORT)))
""",
    "kill the parent": """
tried(lambda: os.kill(os.getppid(), 18))
tried(lambda: os.kill(STARTER, 0))
tried(lambda: os.killpg(0, 18))
""",
    "become root": """
tried(os.setuid, 0) if hasattr(os, "setuid") else None
tried(os.chroot, "/") if hasattr(os, "chroot") else None
""",
    "raise the limits": """
import resource
for kind in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE):
    tried(resource.setrlimit, kind, (1 << 40, 1 << 40))
""",
    "our own modules": "tried(lambda: __import__('marketplace'))",
    "patch the checker": """
import builtins, json
json.dumps = lambda *a, **k: "[1000000]"
json.loads = lambda *a, **k: [1]
builtins.len = lambda x: 12
for module in list(sys.modules.values()):
    for name in ("_right", "_same", "score", "judge"):
        if name in getattr(module, "__dict__", {}):
            escaped(f"{name} of {module}")
""",
    "look for the outputs": """
frame = sys._getframe()
while frame is not None:
    for space in (frame.f_globals, frame.f_locals):
        request = space.get("request")
        if request and "outputs" in request:
            escaped("the expected outputs")
        if isinstance(space.get("outputs"), list):
            space["outputs"].extend(["[0]"] * 12)
    frame = frame.f_back
""",
    "a forged result": """
sys.__stdout__.write('{"score": 1.0, "reason": "CORRECT"}')
sys.__stdout__.flush()
os._exit(0)
""",
    "a forged list": """
sys.__stdout__.write("[" + ", ".join(["[0]"] * 12) + "]")
sys.__stdout__.flush()
os._exit(0)
""",
    "two results": "sys.__stdout__.write('[[0]]')",
    "infinite output": "while True: sys.__stdout__.write('x' * 65536)",
    "infinite errors": "while True: sys.__stderr__.write('x' * 65536)",
    "not a number": "def total(xs): return float('nan')",
    "infinity": "def total(xs): return float('inf')",
    "raw not a number": "sys.__stdout__.write('[[NaN]' + ', [Infinity]' * 11 + ']'); os._exit(0)",
    "a huge number": "def total(xs): return 10 ** 5000",
    "deep output": "sys.__stdout__.write('[' * 60000); sys.__stdout__.flush(); os._exit(0)",
    "bytes that are no text": "sys.__stdout__.buffer.write(bytes(range(128, 256)))",
    "exit in the middle": "def total(xs): sys.exit(0)",
    "hard exit": "def total(xs): os._exit(0)",
    "a hostile exception": """
class Hostile(BaseException):
    def __str__(self): raise Hostile
    __repr__ = __str__
def total(xs): raise Hostile
""",
    "closed outputs": "os.close(1); os.close(2)\ndef total(xs): return 0",
    "huge allocation": "def total(xs): return len(bytearray(1 << 31))",
    "growing allocation": "kept = []\nwhile True: kept.append(bytearray(1 << 20))",
    "deep recursion": """
def total(xs):
    return sorted([xs], key=total)
sys.setrecursionlimit(1000)
""",
    "not Python": "def total(xs: return",
    "a null byte": "\0",
    "a lone surrogate": "'\ud800'",
}

ENDLESS: dict[str, str] = {
    "endless loop": "while True: pass",
    "endless loop that ignores signals": """
import _signal
if hasattr(_signal, "SIGXCPU"):
    _signal.signal(_signal.SIGXCPU, _signal.SIG_IGN)
while True: pass
""",
    "endless recursion": """
sys.setrecursionlimit(10 ** 8)
def total(xs):
    return total(xs)
""",
    "a slow pattern": "import re\nre.match('(a*)*b', 'a' * 40)",
    "watching the clock": "import time\nwhile True: time.time()",
}
"""These take their whole time: no fuel left in WebAssembly, CPU time elsewhere."""
