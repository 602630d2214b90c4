#!/bin/csh -f
# The article's script, to time ours against. Two changes: the names are arguments,
# and nothing is started.
foreach DAEMON ( $argv )
        ps -cax | fgrep "$DAEMON:t" | cut -c27-80 > /dev/null
        if ( $status > 0) then
                echo "Restarting $DAEMON"
                date
        endif
end
