"""Read image datasets into uint8 crops: readers, decoding, pipelines, the crop cache, sampling."""
