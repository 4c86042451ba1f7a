"""A real Ray cluster of two nodes on this machine, in a process of its own; it is told what to do by lines.

    python cluster_host.py CPUS_OF_THE_FIRST CPUS_OF_THE_SECOND

It prints its address. "kill" ends the second node at once; anything else ends all.
"""

import sys

from ray.cluster_utils import Cluster


def main() -> None:
    """Start two nodes and obey."""
    first, second = (int(cpus) for cpus in sys.argv[1:])
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": first, "include_dashboard": False})
    node = cluster.add_node(num_cpus=second)
    cluster.wait_for_nodes()
    print(cluster.address, flush=True)
    for line in sys.stdin:
        if line == "kill\n":
            cluster.remove_node(node, allow_graceful=False)
        else:
            break
        print("done", flush=True)
    cluster.shutdown()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
