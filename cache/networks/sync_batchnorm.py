"""SyncBatchNorm for networks that may hold timm layers."""

from kdcache.cache.networks.network import Network


def synchronise_batchnorm(network: Network) -> Network:
    """BatchNorm statistics over all ranks; the same network, its layers replaced.

    torch's own conversion turns timm's fused norm-and-activation layers into bare norms and so deletes every
    activation of a MobileNet. Call it before the optimizer is built and before DDP.
    """
    from timm.layers import convert_sync_batchnorm  # timm loads where several ranks need it

    converted: Network = convert_sync_batchnorm(network)
    return converted
