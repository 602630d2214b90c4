# fish: what may follow `viagra.py`; the program itself knows it.
complete -c viagra.py -f -k -a '(/usr/local/sbin/viagra.py --complete (commandline -opc)[2..] (commandline -ct) 2>/dev/null)'
