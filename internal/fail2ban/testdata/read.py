# Reads folders of fail2ban's configuration with fail2ban's own code: their names come on stdin,
# one a line, and for each a line of JSON is printed: its enabled jails, or the error.
import json
import logging
import sys

from fail2ban.client.configurator import Configurator
from fail2ban.helpers import splitwords
from fail2ban.server.mytime import MyTime

logging.disable(logging.CRITICAL)


def seconds(value):
    return None if value in (None, "") else MyTime.str2seconds(value)


def jail(j):
    o = j.options
    flt = j._JailReader__filter
    res = {
        "backend": o.get("backend"),
        "maxretry": o.get("maxretry"),
        "findtime": seconds(o.get("findtime")),
        "bantime": seconds(o.get("bantime")),
        "maxtime": seconds(o.get("bantime.maxtime")),
        "increment": bool(o.get("bantime.increment")),
        "ignoreself": bool(o.get("ignoreself")) if o.get("ignoreself") is not None else None,
        "ignoreip": splitwords(o.get("ignoreip")),
        "logpath": o.get("logpath"),
        "filter": flt.getFile(),
        "mode": flt.getCombined().get("mode") or flt.getCombOption("mode"),
        "actions": [],
    }
    for a in j._JailReader__actions:
        if isinstance(a, list):
            res["actions"].append([a[4].rsplit("/", 1)[-1], {}])
        else:
            given = {k: v for k, v in a._initOpts.items() if k not in ("name", "actname") and not k.startswith("known/")}
            res["actions"].append([a.getFile().rsplit("/", 1)[-1], given])
    return res


def read(folder):
    c = Configurator()
    c.setBaseDir(folder)
    c.readAll()
    c.getOptions(ignoreWrong=True)
    jails = c._Configurator__jails.jails
    broken = [j.getName() for j in jails if j.options.get("config-error")]
    return {"jails": {j.getName(): jail(j) for j in jails if j.getName() not in broken}, "broken": broken}


for line in sys.stdin:
    try:
        res = read(line.rstrip("\n"))
    except BaseException as e:
        res = {"error": type(e).__name__ + ": " + str(e)}
    print(json.dumps(res), flush=True)
