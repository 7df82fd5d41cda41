from .export import export_backbone as export_backbone
