"""Images in, uint8 crops out: readers, safe decoding, pipelines, the crop cache and the sampler."""
