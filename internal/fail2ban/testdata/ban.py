# Bans addresses for an hour in a database, with fail2ban's own code, and holds it until stdin ends.
import logging
import sys
import time

from fail2ban.server.database import Fail2BanDb
from fail2ban.server.jail import Jail
from fail2ban.server.ticket import BanTicket

logging.disable(logging.CRITICAL)
db = Fail2BanDb(sys.argv[1])
jail = Jail("sshd", backend="polling", db=db)
db.addJail(jail)
for address in sys.argv[2:]:
    ticket = BanTicket(address, time.time())
    ticket.setBanTime(3600)
    ticket.setBanCount(3)
    db.addBan(jail, ticket)
print("banned", flush=True)
sys.stdin.read()
