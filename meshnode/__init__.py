"""meshnode: lend and borrow open-weight language models, peer to peer.

The map (imports point downwards; rooms on one line never import each other):

    cli       thin commands; each talks to the running node, or starts it
    node      the composition root: the only place where concrete things are built and nested
    ready     what a started node says of itself  | memory   how much of it models may take
              | process  signals, open files, the collector
    api       HTTP dialects: JSON in, domain out; events in, JSON or SSE out
    gateway   who a client of this API is, and what it may spend
    mesh      who could answer, here or at a peer; asking and serving peers; what they offer
    engine    one worker process per model   | models  GGUF files on disk and where they come from
              | net  libp2p, directory, neighbours | ledger  signed receipts, prices
    storage   the only door to SQLite        | wire    what travels between peers
              | client  typed client of the local API | identity  keys | config  settings | observe  logs and metrics
    events    what an answer is made of
    domain    the nouns                      then errors, one tree
"""

__version__ = "0.1.0"
