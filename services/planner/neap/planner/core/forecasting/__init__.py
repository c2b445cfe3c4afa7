"""What is expected of services, nodes, pools and the cluster: asked for by other desks, judged, published."""
