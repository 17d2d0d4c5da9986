/* node/node_wish.c - entries for a peer that memory does not hold any more. */
#include "node/node_int.h"

void node_wish(struct node *n, const struct raft_wish *wish)
{
    (void)n;
    (void)wish;
}
